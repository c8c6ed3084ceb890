"""Process videos in the authors' layout; `emotion_train.prepare.raw_video` does the same for raw videos."""

from dataclasses import dataclass
from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import WriteError
from emotion_train.clips.authors_format import BOXES_NAME, FRAMES_NAME, AuthorsClip, load_index, open_video
from emotion_train.clips.format import ClipRecord
from emotion_train.clips.writer import shard_of, write_tar
from emotion_train.prepare.excluded import excluded_names
from emotion_train.prepare.pairing import VideoPairs, key_of
from emotion_train.prepare.settings import PrepareSettings, SentenceOutcome
from emotion_train.prepare.work import (
    ClipFacts,
    SentenceFacts,
    VideoJob,
    VideoResult,
    clip_facts,
    persons_in,
    write_result,
)


@dataclass(frozen=True, slots=True)
class AuthorsJob:
    """A video and its clips."""

    job: VideoJob
    clips: tuple[AuthorsClip, ...]


def find_videos(root: Path, work: Path, *, exclude: frozenset[str]) -> tuple[list[AuthorsJob], VideoPairs]:
    """Return a job for each video of the index whose files exist, and the names of the others.

    Raises:
        EmotionError: The index is invalid, or no video is left.
    """
    index = load_index(root)
    jobs, incomplete = [], []
    left_out = excluded_names(sorted(index), exclude)
    for name in sorted(index.keys() - set(left_out)):
        files = (root / name / FRAMES_NAME, root / name / BOXES_NAME)
        if all(path.is_file() for path in files):
            jobs.append(AuthorsJob(VideoJob(name, key_of(name), files, work), tuple(index[name])))
        else:
            incomplete.append(name)
    if not jobs:
        raise EmotionError(
            f"--from-authors {root}: none of the {len(index)} videos in the index can be used; expected "
            f"{root}/<video_id>/{FRAMES_NAME} and {BOXES_NAME}"
        )
    return jobs, VideoPairs([job.job for job in jobs], [], incomplete, left_out)


def convert_video(item: AuthorsJob, settings: PrepareSettings) -> None:
    """Write the clips of one video, and the outcome of each, to the work folder.

    A video that cannot be read is recorded as a result.

    Raises:
        WriteError: The disk is full, which is not the fault of the video.
    """
    job, inputs = item.job, item.job.inputs()
    try:
        result = _convert(item, inputs, settings)
    except WriteError:
        raise
    except EmotionError as error:
        result = VideoResult(job.name, inputs, error=str(error))
    write_result(job, result)


def _convert(item: AuthorsJob, inputs: list[int], settings: PrepareSettings) -> VideoResult:
    job = item.job
    sentences: list[SentenceFacts] = []
    facts: list[ClipFacts] = []
    with open_video(job.files[0].parent) as video, write_tar(job.tar) as writer:
        for index, clip in enumerate(item.clips):
            outcome = _filter_entry(clip, settings)
            if outcome == "kept":
                read = video.read(clip, short_side=settings.short_side, quality=settings.jpeg_quality)
                outcome = _filter_frames(read, settings)
                if read is not None and outcome == "kept":
                    writer.add(f"{job.key}-{index:05d}", *read)
                    facts.append(clip_facts(read[0]))
            sentences.append(SentenceFacts(clip.entry.duration, clip.entry.neutral_score, outcome))
    return VideoResult(
        job.name, inputs, sentences=sentences, clips=facts, tar=shard_of(job.tar, writer.samples)
    )


def _filter_entry(clip: AuthorsClip, settings: PrepareSettings) -> SentenceOutcome:
    filters, entry = settings.filters, clip.entry
    if entry.duration <= filters.min_seconds:
        return "too short"
    if entry.duration >= filters.max_seconds:
        return "too long"
    if len(entry.text) < filters.min_characters:
        return "too few characters"
    return "too neutral" if entry.neutral_score > filters.max_neutral else "kept"


def _filter_frames(read: tuple[ClipRecord, list[bytes]] | None, settings: PrepareSettings) -> SentenceOutcome:
    if read is None:
        return "outside the video"
    record, frames = read
    if len(frames) < settings.filters.min_frames:
        return "too few frames"
    if settings.filters.need_person and not any(persons_in(boxes) for boxes in record.boxes):
        return "nobody in the picture"
    return "kept"
