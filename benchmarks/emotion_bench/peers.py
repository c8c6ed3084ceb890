"""Other networks on the faces of FER2013, and the paired comparison with a bundle."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_bench.accuracy import calm_people
from emotion_bench.feeds import frame_feeds
from emotion_bench.intervals import mean_over_classes
from emotion_bench.rounds import interleave, ratios
from emotion_bench.work import input_names
from emotion_runtime.backends.base import Backend
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.language.labels import ekman_index
from emotion_train.scenes.faces import Faces

WIDTHS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4)  # of the crop that a peer sees, in sides of the aligned crop
RESAMPLES = 2000
BATCH = 64

_FACE_API_LABELS = ("neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
_FER_LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@dataclass(frozen=True, slots=True)
class Peer:
    """A network that reads single faces.

    Attributes:
        name: Name in reports.
        network: Runs its graph, whose only input and first output are used.
        graph: The ONNX file of it.
        labels: Its classes, as `ekman_index` reads them.
        side: Side of its input, pixels.
        prepare: Turns grey crops (n, side, side) uint8 into its input.
        input: Name of its input.
        scores: Turns its first output into scores (n, classes).
    """

    name: str
    network: Backend
    graph: Path
    labels: tuple[str, ...]
    side: int
    prepare: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    input: str = "faces"
    scores: Callable[[NDArray[np.float32]], NDArray[np.float32]] = np.asarray

    def __call__(self, grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the scores (n, classes) of grey crops (n, side, side) uint8."""
        return self.scores(next(iter(self.network.run({self.input: self.prepare(grey)}).values())))


def face_api(name: str, graph: Path) -> Peer:
    """Return the network of `peer_graphs.face_api_expression`."""

    def prepare(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.repeat(grey[..., None], 3, axis=3).astype(np.float32)

    return Peer(name, OnnxBackend(graph), graph, _FACE_API_LABELS, 112, prepare)


def fer(name: str, graph: Path) -> Peer:
    """Return a network with the input and the classes of `peer_graphs.fer_emotion`."""

    def prepare(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        return (grey[..., None].astype(np.float32) / 127.5 - 1).astype(np.float32)

    (name_of_input,) = input_names(graph)
    return Peer(name, OnnxBackend(graph), graph, _FER_LABELS, 64, prepare, name_of_input)


def best_width(peer: Peer, faces: Faces) -> float:
    """Return the width of the crop at which a peer is right most often; of equal ones the first."""
    return max(WIDTHS, key=lambda width: float((predict(peer, faces, width) == faces.labels).mean()))


def predict(peer: Peer, faces: Faces, width: float) -> NDArray[np.int64]:
    """Return the classes (N,) in `EKMAN` order of crops of a width."""
    order = np.array([ekman_index(name) for name in peer.labels])
    crops = np.stack([cut(image, width, peer.side) for image in faces.images])
    parts = [peer(crops[i : i + BATCH]) for i in range(0, len(crops), BATCH)]
    return np.asarray(order[np.concatenate(parts).argmax(axis=1)])


def cut(image: NDArray[np.uint8], width: float, side: int) -> NDArray[np.uint8]:
    """Return a centred crop (side, side); beyond the image its border is repeated."""
    scale = side / (width * image.shape[0])
    shift = side / 2 - 0.5 - scale * (image.shape[0] / 2 - 0.5)
    matrix = np.array([[scale, 0, shift], [0, scale, shift]])
    return np.asarray(cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def compare(ours: NDArray[np.int64], peer: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Compare two predictions (N,) for the same faces.

    Returns:
        For `bundle` and `peer` accuracy, balanced_accuracy and calm_taken_for_negative; for each of these
        `NAME_difference`: bundle minus peer, and both ends of its 95 % interval: over resampled faces, and of
        balanced accuracy over the recalls of classes, of which some have few faces.
    """
    draws = np.random.default_rng(0).integers(0, len(labels), (RESAMPLES, len(labels)))

    def metrics(chosen: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        right, seen = chosen[rows] == labels[rows], labels[rows]
        recalls = [right[seen == c].mean() for c in np.unique(seen)]
        calm, taken = calm_people(seen, chosen[rows])
        return np.array([right.mean(), np.mean(recalls), taken.sum() / calm.sum() if calm.any() else np.nan])

    everyone = np.arange(len(labels))
    values = {name: metrics(each, everyone) for name, each in (("bundle", ours), ("peer", peer))}
    spread = np.array([metrics(ours, rows) - metrics(peer, rows) for rows in draws])
    ends = np.nanquantile(spread, (0.025, 0.975), axis=0)
    ends[:, 1] = paired_balanced(ours == labels, peer == labels, labels)
    names = ("accuracy", "balanced_accuracy", "calm_taken_for_negative")
    result: dict[str, Any] = {
        f"{who}_{name}": round(float(value), 4)
        for who, row in values.items()
        for name, value in zip(names, row, strict=True)
    }
    for i, name in enumerate(names):
        difference = values["bundle"][i] - values["peer"][i]
        result[f"{name}_difference"] = [round(float(v), 4) for v in (difference, *ends[:, i])]
    return result


def paired_balanced(
    ours: NDArray[np.bool_], peer: NDArray[np.bool_], labels: NDArray[np.int64]
) -> tuple[float, float]:
    """Return the 95 % interval of the difference of balanced accuracies of right predictions (N,)."""
    differing = np.stack([ours & ~peer, peer & ~ours, ours == peer])  # (3, N)
    counts = [differing[:, labels == c].sum(axis=1) for c in np.unique(labels)]
    return mean_over_classes(counts, (1, -1, 0))


def time_ratio(frame_encoder: Backend, spec: PreprocessSpec, peer: Peer, *, rounds: int) -> float:
    """Return the median over rounds of the frame encoder's time for one person divided by the peer's."""
    grey = np.random.default_rng(0).integers(0, 256, (1, peer.side, peer.side), dtype=np.uint8)
    theirs = {peer.input: peer.prepare(grey)}
    calls = {
        "ours": partial(frame_encoder.run, frame_feeds(spec, 1)),
        "peer": partial(peer.network.run, theirs),
    }
    seconds = interleave(calls, rounds=rounds)
    return round(median(ratios(seconds["ours"], seconds["peer"])), 2)
