"""Turn one video and its captions into clips; this is what every worker runs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import WriteError
from emotion_runtime.sources.file import read_file
from emotion_train.clips.format import ClipRecord
from emotion_train.clips.writer import ClipWriter, shard_of, write_tar
from emotion_train.language.labels import EKMAN
from emotion_train.prepare.captions import read_captions
from emotion_train.prepare.models import PrepareModels, load_models, one_thread
from emotion_train.prepare.punctuation import restore
from emotion_train.prepare.regroup import Sentence, regroup
from emotion_train.prepare.settings import ModelNames, PrepareSettings, SentenceOutcome
from emotion_train.prepare.stored_frames import StoredFrame, VideoClock, frames_on_grid, grid_indices, store
from emotion_train.prepare.work import (
    CaptionCounts,
    ClipFacts,
    SentenceFacts,
    VideoJob,
    VideoResult,
    clip_facts,
    persons_in,
    write_result,
)

NEUTRAL = EKMAN.index("neutral")
BEYOND_END = 0.5  # seconds that a caption may begin before the first frame, or last beyond the last


@dataclass(slots=True)
class _Candidate:
    """A sentence that may become a clip; `index` counts all sentences of the video."""

    index: int
    sentence: Sentence
    outcome: SentenceOutcome = "kept"
    logits: list[float] = field(default_factory=list)
    neutral: float | None = None


def prepare_video(job: VideoJob, settings: PrepareSettings, names: ModelNames) -> None:
    """Write the clips of one video, and the outcome of each of its sentences, to the work folder.

    A video or captions that cannot be read are recorded as a result.

    Raises:
        WriteError: The disk is full, which is not the fault of the video.
        EmotionError: A model cannot be loaded.
    """
    inputs = job.inputs()  # taken before reading: if the files change meanwhile, the result is discarded
    with one_thread():
        models = load_models(names)
    with one_thread():  # again, for libraries that the models have loaded
        try:
            result = _prepare(job, inputs, settings, models)
        except WriteError:
            raise
        except EmotionError as error:
            result = VideoResult(job.name, inputs, error=str(error))
    write_result(job, result)


def _prepare(
    job: VideoJob, inputs: list[int], settings: PrepareSettings, models: PrepareModels
) -> VideoResult:
    captions = read_captions(job.files[1])
    words = restore(captions.words, models.punctuation) if models.punctuation else captions.words
    # A run of words without a full stop is cut into sentences that just pass the filter.
    sentences = regroup(words, pause=settings.pause, longest=settings.filters.max_seconds - 0.001)
    candidates = [_Candidate(index, sentence) for index, sentence in enumerate(sentences)]
    _filter_sentences(candidates, settings, models)
    with write_tar(job.tar) as writer:
        clips = _write_clips(job, settings, models, candidates, writer)
    return VideoResult(
        job.name,
        inputs,
        captions=CaptionCounts(captions.cues, captions.overlapping, captions.repeated),
        sentences=[SentenceFacts(c.sentence.seconds, c.neutral, c.outcome) for c in candidates],
        clips=clips,
        tar=shard_of(job.tar, writer.samples),
    )


def _filter_sentences(candidates: list[_Candidate], settings: PrepareSettings, models: PrepareModels) -> None:
    """Apply the filters that need no frames."""
    filters = settings.filters
    for candidate in candidates:
        if candidate.sentence.seconds <= filters.min_seconds:
            candidate.outcome = "too short"
        elif candidate.sentence.seconds >= filters.max_seconds:
            candidate.outcome = "too long"
        elif len(candidate.sentence.text) < filters.min_characters:
            candidate.outcome = "too few characters"
    scored = [candidate for candidate in candidates if candidate.outcome == "kept"]
    if not scored:
        return
    logits = models.sentiment([candidate.sentence.text for candidate in scored])  # (N, 7)
    for candidate, row in zip(scored, np.round(logits.astype(np.float64), 4), strict=True):
        candidate.logits = row.tolist()
        candidate.neutral = round(float(_softmax(row)[NEUTRAL]), 6)
        if candidate.neutral > filters.max_neutral:
            candidate.outcome = "too neutral"


def _write_clips(
    job: VideoJob,
    settings: PrepareSettings,
    models: PrepareModels,
    candidates: list[_Candidate],
    writer: ClipWriter,
) -> list[ClipFacts]:
    """Read the video once and write every clip as soon as its last frame has been read."""
    clock = VideoClock()
    clips = []
    for candidate, frames in _gather(job.files[0], settings, models, candidates, clock):
        candidate.outcome = _filter_frames(candidate.sentence, frames, clock, settings)
        if candidate.outcome == "kept":
            record = _record(job, settings, candidate, frames)
            writer.add(f"{job.key}-{candidate.index:05d}", record, [frame.jpeg for frame in frames])
            clips.append(clip_facts(record))
    return clips


def _gather(
    path: Path,
    settings: PrepareSettings,
    models: PrepareModels,
    candidates: list[_Candidate],
    clock: VideoClock,
) -> Iterator[tuple[_Candidate, list[StoredFrame]]]:
    """Yield every candidate with its frames, in order of their ends; those beyond the video come last."""
    pending = {  # grid indices by index of the candidate
        c.index: grid_indices(c.sentence.start, c.sentence.end, settings.fps)
        for c in candidates
        if c.outcome == "kept"
    }
    needed = sorted({k for indices in pending.values() for k in indices})
    if not needed:
        return
    stored: dict[int, StoredFrame] = {}

    def take(index: int) -> tuple[_Candidate, list[StoredFrame]]:
        indices = pending.pop(index)
        return candidates[index], [stored[k] for k in indices if k in stored]

    for k, image in frames_on_grid(read_file(str(path)), needed, settings.fps, clock):
        stored[k] = store(
            image, models.detector, short_side=settings.short_side, quality=settings.jpeg_quality
        )
        for index in [index for index, indices in pending.items() if indices[-1] == k]:
            yield take(index)
        first = min((indices[0] for indices in pending.values()), default=math.inf)
        for old in [old for old in stored if old < first]:
            del stored[old]
    for index in list(pending):
        yield take(index)


def _filter_frames(
    sentence: Sentence, frames: list[StoredFrame], clock: VideoClock, settings: PrepareSettings
) -> SentenceOutcome:
    filters = settings.filters
    expected = grid_indices(sentence.start, sentence.end, settings.fps)
    outside = sentence.start < clock.start - BEYOND_END or sentence.end > clock.end + BEYOND_END
    if len(frames) < len(expected) and (not frames or outside):
        return "outside the video"
    if len(frames) < filters.min_frames:
        return "too few frames"
    if filters.need_person and not any(persons_in(frame.boxes) for frame in frames):
        return "nobody in the picture"
    return "kept"


def _record(
    job: VideoJob, settings: PrepareSettings, candidate: _Candidate, frames: list[StoredFrame]
) -> ClipRecord:
    return ClipRecord(
        video=job.name,
        caption=candidate.sentence.text,
        start=candidate.sentence.start,
        end=candidate.sentence.end,
        fps=settings.fps,
        width=frames[0].width,
        height=frames[0].height,
        boxes=[frame.boxes for frame in frames],
        sentiment=candidate.logits,
        neutral=candidate.neutral or 0.0,
    )


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    probabilities: NDArray[np.float64] = powers / powers.sum()
    return probabilities
