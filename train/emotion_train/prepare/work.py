"""The work folder: one result a video, written whole, so that a run can be stopped at any moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import remove_leftovers, write_atomically
from emotion_train.clips.format import PERSON_SCORE, ClipRecord, ScoredBox, Shard
from emotion_train.clips.writer import RUN_AGAIN
from emotion_train.language.labels import EKMAN
from emotion_train.prepare.settings import PrepareSettings, SentenceOutcome

SETTINGS_NAME = "settings.json"


class CaptionCounts(msgspec.Struct, frozen=True):
    """Counts of a caption file; see `emotion_train.prepare.captions.Captions`."""

    cues: int = 0
    overlapping: int = 0
    repeated: int = 0


class SentenceFacts(msgspec.Struct, frozen=True, array_like=True):
    """neutral: probability, None where it was not asked for."""

    seconds: float
    neutral: float | None
    outcome: SentenceOutcome


class ClipFacts(msgspec.Struct, frozen=True, array_like=True):
    """persons: in each frame, of `PERSON_SCORE` and more. sentiment: position in `EKMAN` of the likeliest."""

    frames: int
    persons: list[int]
    sentiment: int


class VideoResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What came of a video. inputs: sizes and times of its files. error: why it could not be used.

    clips: facts about the clips in `tar`, in its order; None with an error.
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
    """A video to be worked on, and where its result goes.

    name: what people know it by. key: what its clips' keys begin with, unique in a run. files: what is read;
    the video and its captions.
    """

    name: str
    key: str
    files: tuple[Path, ...]
    work: Path

    @property
    def tar(self) -> Path:
        """The clips."""
        return self.work / f"{self.key}.tar"

    @property
    def result(self) -> Path:
        """What came of the video; written last."""
        return self.work / f"{self.key}.json"

    def inputs(self) -> list[int]:
        """Sizes in bytes and times of the last change in nanoseconds: another file has others.

        Raises:
            EmotionError: a file is gone.

        """
        try:
            stats = [path.stat() for path in self.files]
        except OSError as error:
            raise EmotionError(
                f"{error.filename}: {error.strerror}, and it was there; give the same command again"
            ) from error
        return [number for stat in stats for number in (stat.st_size, stat.st_mtime_ns)]


def persons_in(boxes: list[ScoredBox]) -> int:
    """How many boxes count as a person."""
    return sum(box[4] >= PERSON_SCORE for box in boxes)


def clip_facts(record: ClipRecord) -> ClipFacts:
    """What the statistics say of a clip."""
    persons = [persons_in(boxes) for boxes in record.boxes]
    return ClipFacts(len(record.boxes), persons, max(range(len(EKMAN)), key=record.sentiment.__getitem__))


def write_result(job: VideoJob, result: VideoResult) -> None:
    """Say that a video is done.

    Raises:
        WriteError: no space, no permission.

    """
    write_atomically(job.result, msgspec.json.encode(result), fix=RUN_AGAIN)


def read_result(job: VideoJob) -> VideoResult | None:
    """What came of a video; None when it is still to be done, or its files have changed since."""
    try:
        result = msgspec.json.decode(job.result.read_bytes(), type=VideoResult)
        whole = result.tar is None or job.tar.stat().st_size == result.tar.bytes
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, msgspec.ValidationError):  # of another version: do it again
        return None
    return result if whole and result.inputs == job.inputs() else None


@contextmanager
def claim(folder: Path, settings: PrepareSettings) -> Iterator[None]:
    """The work folder, for this run alone; what lies in it was made with the same settings.

    Raises:
        EmotionError: other settings, another run is at work, or the folder cannot be written.

    """
    lock = FileLock(folder / ".lock")  # let go by the system when its owner is killed
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise EmotionError(
            f"{folder}: another run is at work here; wait for it, or choose another --out"
        ) from error
    except OSError as error:
        raise EmotionError(f"{folder}: {error.strerror}; choose an --out that can be written") from error
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
            f"{path.parent} holds work of other settings ({_differences(before, settings)}): give the same "
            "ones to go on, or choose another --out"
        )


def _differences(before: PrepareSettings, now: PrepareSettings) -> str:
    """`fps 8.0, now 4.0; ...`."""
    old, new = (_flat(settings) for settings in (before, now))
    return "; ".join(f"{name} {old[name]}, now {new[name]}" for name in old if old[name] != new[name])


def _flat(settings: PrepareSettings) -> dict[str, object]:
    plain: dict[str, object] = msgspec.structs.asdict(settings)
    return {**plain, **msgspec.structs.asdict(settings.filters), "filters": None}
