"""The work folder: one result per video, written atomically, so that a run can be stopped at any time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import remove_leftovers, write_atomically
from emotion_train.clips.format import PERSON_SCORE, ClipRecord, ScoredBox, Shard
from emotion_train.clips.writer import RUN_AGAIN
from emotion_train.folder_lock import locked
from emotion_train.language.labels import EKMAN
from emotion_train.prepare.settings import PrepareSettings, SentenceOutcome

SETTINGS_NAME = "settings.json"


class CaptionCounts(msgspec.Struct, frozen=True):
    """Counts of cues in a caption file; see `emotion_train.prepare.captions.Captions`."""

    cues: int = 0
    overlapping: int = 0
    repeated: int = 0


class SentenceFacts(msgspec.Struct, frozen=True, array_like=True):
    """A sentence for the statistics.

    Attributes:
        seconds: Duration.
        neutral: Probability of neutral; None if the sentence was not scored.
        outcome: Kept, or the filter that rejected it.
    """

    seconds: float
    neutral: float | None
    outcome: SentenceOutcome


class ClipFacts(msgspec.Struct, frozen=True, array_like=True):
    """A clip for the statistics.

    Attributes:
        frames: Number of frames.
        persons: Number of people in each frame, with a score above `PERSON_SCORE`.
        sentiment: Index in `EKMAN` of the most probable class.
    """

    frames: int
    persons: list[int]
    sentiment: int


class VideoResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The result of processing one video.

    Attributes:
        name: Name of the video.
        inputs: Sizes and modification times of its files.
        error: Why it could not be used.
        captions: Counts of cues.
        sentences: All sentences, in order of time.
        clips: The clips in `tar`, in its order.
        tar: The file of the clips; None after an error.
    """

    name: str
    inputs: list[int]
    error: str | None = None
    captions: CaptionCounts = CaptionCounts()
    sentences: list[SentenceFacts] = []
    clips: list[ClipFacts] = []
    tar: Shard | None = None


@dataclass(frozen=True, slots=True)
class VideoJob:
    """A video to process, and where its result goes.

    Attributes:
        name: Shown to people.
        key: Prefix of the keys of its clips, unique in a run.
        files: Files that are read: the video and its captions.
        work: The work folder.
    """

    name: str
    key: str
    files: tuple[Path, ...]
    work: Path

    @property
    def tar(self) -> Path:
        """Path of the clips."""
        return self.work / f"{self.key}.tar"

    @property
    def result(self) -> Path:
        """Path of the result, which is written last."""
        return self.work / f"{self.key}.json"

    def inputs(self) -> list[int]:
        """Return sizes in bytes and modification times in nanoseconds, by which a changed file is noticed.

        Raises:
            EmotionError: A file no longer exists.
        """
        try:
            stats = [path.stat() for path in self.files]
        except OSError as error:
            raise EmotionError(
                f"{error.filename}: {error.strerror}, although it existed before; run the same command again"
            ) from error
        return [number for stat in stats for number in (stat.st_size, stat.st_mtime_ns)]


def persons_in(boxes: list[ScoredBox]) -> int:
    """Return how many boxes have a score that counts as a person."""
    return sum(box[4] > PERSON_SCORE for box in boxes)


def clip_facts(record: ClipRecord) -> ClipFacts:
    """Return what the statistics need of a clip."""
    persons = [persons_in(boxes) for boxes in record.boxes]
    return ClipFacts(len(record.boxes), persons, max(range(len(EKMAN)), key=record.sentiment.__getitem__))


def write_result(job: VideoJob, result: VideoResult) -> None:
    """Write the result of a video, which marks it as done.

    Raises:
        WriteError: The file cannot be written.
    """
    write_atomically(job.result, msgspec.json.encode(result), fix=RUN_AGAIN)


def read_result(job: VideoJob) -> VideoResult | None:
    """Return the result of a video; None if it is not processed yet, or its files have changed since."""
    try:
        result = msgspec.json.decode(job.result.read_bytes(), type=VideoResult)
        complete = result.tar is None or job.tar.stat().st_size == result.tar.bytes
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, msgspec.ValidationError):  # written by another version: process it again
        return None
    return result if complete and result.inputs == job.inputs() else None


@contextmanager
def claim(folder: Path, settings: PrepareSettings) -> Iterator[None]:
    """Lock the work folder for this run, and check that its content was made with the same settings.

    Raises:
        EmotionError: The settings differ, another run uses the folder, or it cannot be written.
    """
    lock = locked(folder)
    try:
        _check_settings(folder / SETTINGS_NAME, settings)
        remove_leftovers(folder)  # of a run that was killed
        yield
    finally:
        lock.release()


def _check_settings(path: Path, settings: PrepareSettings) -> None:
    if not path.exists():
        write_atomically(path, msgspec.json.encode(settings), fix=RUN_AGAIN)
        return
    try:
        before = msgspec.json.decode(path.read_bytes(), type=PrepareSettings)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise EmotionError(f"{path}: {error}; choose another --out, or delete {path.parent}") from error
    if before != settings:
        raise EmotionError(
            f"{path.parent} was made with other settings ({_differences(before, settings)}): use the same "
            "settings to continue, or choose another --out"
        )


def _differences(before: PrepareSettings, now: PrepareSettings) -> str:
    """Describe the differences as `fps 8.0, now 4.0; ...`."""
    old, new = (_flat(settings) for settings in (before, now))
    return "; ".join(f"{name} {old[name]}, now {new[name]}" for name in old if old[name] != new[name])


def _flat(settings: PrepareSettings) -> dict[str, object]:
    plain: dict[str, object] = msgspec.structs.asdict(settings)
    return {**plain, **msgspec.structs.asdict(settings.filters), "filters": None}
