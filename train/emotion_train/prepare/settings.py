"""The settings that decide which clips are made from a video, and the models that are used."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from emotion_runtime.backends.onnx import CUDA, available_providers
from emotion_runtime.bundle import sha256_of
from emotion_runtime.errors import EmotionError

# Outcome of a sentence: kept, or the first filter that rejected it. These words are stored in results.
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
    """Which sentences become clips. The defaults are the paper's; it keeps clips that show nobody.

    Attributes:
        min_seconds: Clips are longer than this.
        max_seconds: Clips are shorter than this.
        min_characters: Minimum number of characters of a sentence.
        max_neutral: Maximum probability of neutral.
        min_frames: Minimum number of frames.
        need_person: Whether clips without a detection in any frame are left out.
    """

    min_seconds: float = 2.0
    max_seconds: float = 10.0
    min_characters: int = 3
    max_neutral: float = 0.05
    min_frames: int = 8
    need_person: bool = False


class PrepareSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that the clips of a video depend on; stored in the index.

    Attributes:
        fps: Stored frames per second, at multiples of 1 / fps of the video's time.
        short_side: Of a stored frame, pixels.
        jpeg_quality: Of Pillow, 1 to 95.
        pause: Seconds of silence that end a sentence.
        language: Language tag of the captions.
        detector: Name and hash of the person detector, so that another model of the same name is noticed.
        detector_score: Minimum score of a box; None uses the default of the detector.
        sentiment: Name and hash of the sentiment model.
        punctuation: Name and hash of the model that restores punctuation; None leaves captions as they are.
        filters: Which sentences become clips.
    """

    fps: float = 8.0
    short_side: int = 256
    jpeg_quality: int = 90
    pause: float = 1.0
    language: str = "en"
    detector: str = "face"
    detector_score: float | None = None
    sentiment: str = "linear"
    punctuation: str | None = None
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
                f"--min-seconds {bounds.min_seconds}: expected less than --max-seconds {bounds.max_seconds}"
            )


@dataclass(frozen=True, slots=True)
class ModelNames:
    """Where a worker finds the models; hashable.

    Attributes:
        detector: As `emotion_runtime.detectors.load_detector` takes it.
        detector_score: Minimum score of a box; None uses the default of the detector.
        sentiment: "linear" or a transformers model.
        sentences: Folder of the GoEmotions split that "linear" is fitted on.
        device: Where the networks run. Scores of a GPU differ from those of a CPU in their last digits.
        punctuation: A transformers model, or None.
    """

    detector: str
    detector_score: float | None
    sentiment: str
    sentences: Path | None
    device: Literal["cpu", "cuda"] = "cpu"
    punctuation: str | None = None


def check_cuda() -> None:
    """Refuse to begin on a GPU that PyTorch or ONNX Runtime cannot use.

    Raises:
        EmotionError: One of them has no CUDA.
    """
    import torch  # noqa: PLC0415 - slow to import

    lacking = [
        name
        for name, has in (
            ("PyTorch finds no GPU", torch.cuda.is_available()),
            ("this ONNX Runtime has no CUDA", CUDA in available_providers()),
        )
        if not has
    ]
    if lacking:
        raise EmotionError(
            f"--device cuda: {' and '.join(lacking)}; install PyTorch for CUDA and onnxruntime-gpu, or use "
            "--device cpu"
        )


def check_models(names: ModelNames) -> None:
    """Refuse invalid combinations before any work is started.

    Raises:
        EmotionError: "linear" without sentences, or a GPU that cannot be used.
    """
    if names.device == "cuda":
        check_cuda()
    if names.sentiment == "linear" and names.sentences is None:
        raise EmotionError(
            "--sentiment linear needs sentences to fit on: give --sentences FOLDER with train.tsv and "
            "labels.txt, or --sentiment with a transformers model"
        )


def identity(name: str, path: Path | None = None) -> str:
    """Return a model's name without its folder, with a hash of its files if it is a local file or folder.

    Args:
        name: Of the model; a path if it is local.
        path: What to hash instead of the file or folder at `name`.
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
