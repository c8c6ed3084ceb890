"""Models that are compared on the same views: bundles, ONNX graphs and checkpoints."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from emotion_bench.predictions import Classifier, Predictions, predict
from emotion_runtime.errors import EmotionError
from emotion_runtime.heads import load_head
from emotion_runtime.names import Precision
from emotion_train.language.labels import EKMAN
from emotion_train.probing.encoders import BundleEncoder
from emotion_train.probing.features import ClipEncoder
from emotion_train.probing.fit import fit_task
from emotion_train.probing.protocol import C_GRID
from emotion_train.probing.samples import Encoding
from emotion_train.probing.scene_probe import TASK, ScenePlan, scene_set
from emotion_train.scenes.faces import FACES_FILE
from emotion_train.scenes.sets import PersonClip


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model with a head for the seven emotions.

    Attributes:
        name: Name in reports.
        encoder: Computes features of clips.
        head: Turns features (N, D) into probabilities (N, 7) in the order of `EKMAN`.
        abstain: No label is given if the most probable one is less probable than this.
    """

    name: str
    encoder: ClipEncoder
    head: Classifier
    abstain: float = 0.0

    def predictions(self, clips: Iterable[tuple[int, PersonClip]]) -> Predictions:
        """Predict clips with equal numbers of frames, which come with the number of their group."""
        return predict(self.encoder, self.head, clips)


def of_bundle(bundle: str, precision: Precision = "fp32") -> Candidate:
    """Return the model of a bundle with its default head.

    Raises:
        EmotionError: The bundle is missing or broken, or its default head predicts other labels.
    """
    encoder = BundleEncoder(bundle, precision)
    manifest = encoder.bundle.manifest
    head = manifest.heads[manifest.default_head]
    if head.labels != list(EKMAN):
        raise EmotionError(
            f"head {manifest.default_head} of bundle {manifest.name} predicts {', '.join(head.labels)}: "
            f"expected {', '.join(EKMAN)}, the labels of the faces"
        )
    return Candidate(Path(bundle).name, encoder, load_head(encoder.bundle), head.abstain)


def of_checkpoint(
    checkpoint: Path, data: Path, *, train_faces: int, tune_faces: int, votes: float, seed: int
) -> Candidate:
    """Return the model of a checkpoint with a head that is fitted on training faces here.

    The regularisation, the temperature and the threshold are chosen on validation faces.

    Args:
        checkpoint: Written by `emotion-train pretrain`.
        data: Folder above the face archive.
        train_faces: Number of training faces that the head is fitted on.
        tune_faces: Number of validation faces.
        votes: Weight of the votes against the label, see `Faces.weighted`.
        seed: Of the scenes and the solver.

    Raises:
        EmotionError: A file is missing or broken.
    """
    from emotion_train.pretrained import read_checkpoint  # noqa: PLC0415 - imports torch
    from emotion_train.probing.torch_encoder import TorchEncoder  # noqa: PLC0415 - imports torch

    read = read_checkpoint(checkpoint)
    encoder = TorchEncoder(read.model)
    plan = ScenePlan(
        data / FACES_FILE, 1, {"train": train_faces, "val": tune_faces, "test": tune_faces}, votes
    )
    encoding = Encoding(encoder, read.sha256, "video", checkpoint.parent / "features", 0)
    train, tune = (scene_set(name, plan, encoding, seed) for name in ("train", "val"))
    head = fit_task(TASK, train, tune, grid=C_GRID, seed=seed)
    return Candidate(checkpoint.parent.name, encoder, head.predictions, head.abstain)
