"""What decides which clips come out of a video, and the folders that it is read from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from emotion_runtime.bundle import sha256_of
from emotion_runtime.errors import EmotionError

# What became of a sentence; the first that applies.
SentenceOutcome = Literal[
    "kept",
    "too short",
    "too long",
    "too few characters",
    "too neutral",
    "outside the video",
    "too few frames",
    "nobody in the picture",
]


class Filters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which sentences become clips; the paper's figures, which keep clips that show nobody.

    min_seconds, max_seconds: bounds of the duration, themselves excluded. max_neutral: probability.
    need_person: leave out clips without a detection in any frame.
    """

    min_seconds: float = 2.0
    max_seconds: float = 10.0
    min_characters: int = 3
    max_neutral: float = 0.05
    min_frames: int = 8
    need_person: bool = False


class PrepareSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that the clips of a video depend on; part of the index.

    fps: stored frames a second, at multiples of 1 / fps of the video's time. short_side: of a stored frame,
    pixels. jpeg_quality: Pillow's, 1 to 95. pause: seconds of silence that end a sentence. detector,
    sentiment: names with the sha256 of what they name, so that another model under an old name is noticed.
    """

    fps: float = 8.0
    short_side: int = 256
    jpeg_quality: int = 90
    pause: float = 1.0
    language: str = "en"
    detector: str = "face"
    detector_score: float | None = None
    sentiment: str = "linear"
    filters: Filters = Filters()

    def __post_init__(self) -> None:
        bounds = self.filters
        for name, value, low, high in (
            ("fps", self.fps, 0.1, 120),
            ("short_side", self.short_side, 16, 4096),
            ("jpeg_quality", self.jpeg_quality, 1, 95),
            ("pause", self.pause, 0, 3600),
            ("min_seconds", bounds.min_seconds, 0, 3600),
            ("max_seconds", bounds.max_seconds, 0, 3600),
            ("min_characters", bounds.min_characters, 0, 1000),
            ("max_neutral", bounds.max_neutral, 0, 1),
            ("min_frames", bounds.min_frames, 1, 10**6),
        ):
            if not low <= value <= high:
                raise EmotionError(f"{name} {value}: expected {low} to {high}")
        if bounds.min_seconds >= bounds.max_seconds:
            raise EmotionError(
                f"min_seconds {bounds.min_seconds}: expected less than max_seconds {bounds.max_seconds}"
            )


@dataclass(frozen=True, slots=True)
class ModelNames:
    """Where a worker finds the models; hashable.

    detector: as `emotion_runtime.detectors.load_detector` takes it. sentiment: "linear" or a transformers
    model. sentences: folder of the GoEmotions split that "linear" is fitted on.
    """

    detector: str
    detector_score: float | None
    sentiment: str
    sentences: Path | None


def check_models(names: ModelNames) -> None:
    """Refuse names that cannot be before anything is begun.

    Raises:
        EmotionError: "linear" without sentences.

    """
    if names.sentiment == "linear" and names.sentences is None:
        raise EmotionError(
            "--sentiment linear is fitted on sentences: give --sentences FOLDER with train.tsv and "
            "labels.txt, or --sentiment with a transformers model"
        )


def identity(name: str, path: Path | None = None) -> str:
    """A model's name without its folder, and the hash of its files if it is one here.

    path: what is hashed when it is not at `name` itself.
    """
    path = path or Path(name)
    if path.is_file():
        return f"{Path(name).name} sha256:{sha256_of(path)[:16]}"
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()} {sha256_of(file)}\n".encode())
        return f"{Path(name).name} sha256:{digest.hexdigest()[:16]}"
    return name
