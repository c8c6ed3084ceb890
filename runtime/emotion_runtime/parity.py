"""Parity check of TensorRT engines against the fp32 graph in ONNX Runtime, on the device that will run them.

TensorRT's fp16 engines of vision transformers are silently wrong often enough (NVIDIA/TensorRT#2709, #4373,
#4723) that no engine is used before it has passed. Needs no torch: a runtime also checks engines that were
built on a machine without a GPU.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Backend, Feeds
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import Bundle
from emotion_runtime.errors import EngineRejected
from emotion_runtime.heads import load_head
from emotion_runtime.manifest import Manifest, Parity
from emotion_runtime.names import GRAPHS, EnginePrecision, GraphName
from emotion_runtime.preprocess import PreprocessSpec, crop, patch_weights
from emotion_runtime.sources.demo import head_boxes, read_demo
from emotion_runtime.subject import plan_crops
from emotion_runtime.vectors import cosine_similarity

LabelFunction = Callable[[NDArray[np.float32]], NDArray[np.intp]]  # outputs of a graph (P, D) -> (heads, P)


@dataclass(frozen=True, slots=True)
class EngineTolerance:
    """How much an engine may differ from the fp32 graph.

    Attributes:
        relative_max: Largest difference of any value, in standard deviations of the expected values.
        cosine_min: Lowest cosine of any person.
        top1_agreement: Fraction of all persons for whom every head must give the same label.
    """

    relative_max: float
    cosine_min: float
    top1_agreement: float


# fp32 without TF32 differs only by the order of sums, 1e-6 to 1e-5. fp16 has 11 bits: ViT-B/32 with LayerNorm
# and softmax in fp32 measured a cosine of 0.999999 and 4e-3; reported broken engines had 0.65 or less. int8
# has 8 bits, and only the direction of its output matters to the heads. The labels of 5 % of the persons may
# change even in fp32, because a check has only 28 persons or more, and one of them may lie between two
# labels.
ENGINE_TOLERANCES: Final[Mapping[EnginePrecision, EngineTolerance]] = MappingProxyType(
    {
        "fp32": EngineTolerance(relative_max=1e-3, cosine_min=0.99999, top1_agreement=0.95),
        "mixed": EngineTolerance(relative_max=0.05, cosine_min=0.9995, top1_agreement=0.95),
        "fp16": EngineTolerance(relative_max=0.05, cosine_min=0.9995, top1_agreement=0.95),
        "int8": EngineTolerance(relative_max=1.0, cosine_min=0.98, top1_agreement=0.9),
    }
)

SIZES: Final = ((1, 1), (1, 3), (2, 3), (2, 8), (1, 16), (4, 16))  # (images, persons)

_DEMO_FRAMES, _DEMO_STEP = 16, 5


def frame_encoder_feeds(spec: PreprocessSpec, *, persons: int, images: int) -> list[Feeds]:
    """Return batches for the frame encoder, of every size in `SIZES` within the limits; always the same.

    The images are crops of the demo's people, and noise. The patch weights of the persons cover a head,
    nothing (zeros), random patches, or the whole image.

    Args:
        spec: How images are cropped and resized.
        persons: Maximum number of people per batch.
        images: Maximum number of images per batch.
    """
    rng = np.random.default_rng(7)
    crops, heads = _demo_crops(spec)
    crops.insert(2, rng.integers(0, 256, crops[0].shape, dtype=np.uint8))
    weights = [
        *heads,
        np.zeros(spec.patches, np.float32),
        rng.random(spec.patches, np.float32),
        np.ones(spec.patches, np.float32),
    ]
    endless_crops, endless_weights = cycle(crops), cycle(weights)
    return [
        {
            "images": np.stack(list(islice(endless_crops, f))),  # (F, S, S, 3)
            "frame_index": np.arange(p, dtype=np.int64) % f,  # (P,)
            "patch_weights": np.stack(list(islice(endless_weights, p))),  # (P, G)
        }
        for f, p in _sizes(persons, images)
    ]


def temporal_encoder_feeds(
    manifest: Manifest, embeddings: NDArray[np.float32], *, persons: int
) -> list[Feeds]:
    """Return batches of clips (P, T, D), drawn from embeddings (N, D) of the fp32 frame encoder."""
    rng = np.random.default_rng(8)
    shape = (manifest.clip_frames,)
    return [
        {"embeddings": embeddings[rng.integers(0, len(embeddings), (p, *shape))]}
        for p in sorted({p for _, p in _sizes(persons, 1)})
    ]


@dataclass(frozen=True, slots=True)
class ParityCheck:
    """The batches that an engine of a graph is checked with, and the expected outputs.

    Attributes:
        graph: Name of the graph.
        feeds: Inputs, one batch each.
        expected: Outputs (P, D) of the fp32 graph, one for each of `feeds`.
        labels: Returns the most probable label of each head.
    """

    graph: str
    feeds: Sequence[Feeds]
    expected: Sequence[NDArray[np.float32]]
    labels: LabelFunction

    def run(self, engine: Backend, precision: EnginePrecision) -> tuple[list[Parity], str]:
        """Return one report row per batch, and a one-line failure message (empty if the engine passes).

        Raises:
            EngineRejected: The engine's output has another shape.
        """
        rows = compare(self, precision, engine)
        return rows, failure_message(rows, precision)


def make_parity_check(bundle: Bundle, graph: GraphName, limits: Limits) -> ParityCheck:
    """Make the check for engines of a bundle's graph by running its fp32 graph in ONNX Runtime on the CPU.

    Raises:
        EmotionError: ONNX Runtime is not installed or cannot load a graph.
    """
    encoder, temporal = (OnnxBackend(bundle.graph_path(name)) for name in GRAPHS)
    of_features = label_function(bundle)

    def of_embeddings(embeddings: NDArray[np.float32]) -> NDArray[np.intp]:
        """Repeat each embedding to a clip, as for a person who has just appeared."""
        clips = np.repeat(embeddings[:, None], bundle.manifest.clip_frames, axis=1)  # (P, T, D)
        return of_features(temporal.run({"embeddings": clips})["features"])

    feeds = frame_encoder_feeds(bundle.manifest.preprocess, persons=limits.persons, images=limits.images)
    expected = [encoder.run(feed)["embeddings"] for feed in feeds]
    if graph == "frame_encoder":
        return ParityCheck(graph, feeds, expected, of_embeddings)
    feeds = temporal_encoder_feeds(bundle.manifest, np.concatenate(expected), persons=limits.persons)
    return ParityCheck(graph, feeds, [temporal.run(feed)["features"] for feed in feeds], of_features)


def label_function(bundle: Bundle) -> LabelFunction:
    """Return a function from features (P, D) to the labels of a bundle's heads.

    Regressions are left out, and so are experimental heads, whose labels lie too close together to be a
    useful check; the default head is always included, because people see its labels.
    """
    manifest = bundle.manifest
    heads = [
        load_head(bundle, name)
        for name, head in manifest.heads.items()
        if head.activation != "identity" and (name == manifest.default_head or not head.experimental)
    ]

    def labels(features: NDArray[np.float32]) -> NDArray[np.intp]:
        with np.errstate(invalid="ignore"):  # the distances of `compare` reject NaN
            return np.stack([head(features).argmax(axis=1) for head in heads])

    return labels


def compare(check: ParityCheck, precision: EnginePrecision, engine: Backend) -> list[Parity]:
    """Run an engine twice on every batch, and compare the second output with the expected one (P, D).

    Returns:
        One row per batch.

    Raises:
        EngineRejected: The engine's output has another shape.
    """
    rows = []
    for feed, expected in zip(check.feeds, check.expected, strict=True):
        engine.run(feed)
        (found,) = engine.run(feed).values()  # the second run replays the captured CUDA graph
        if found.shape != expected.shape:
            raise EngineRejected(
                f"{check.graph}: the engine's output has shape {found.shape}, expected {expected.shape}"
            )
        rows.append(_row(check, precision, feed, expected, found))
    return rows


def passes(row: Parity, tolerance: EngineTolerance) -> bool:
    """Return whether the distances of a row are within tolerance; False if one of them is NaN."""
    return row.max_abs <= row.tolerance and row.cosine_min >= tolerance.cosine_min


def failure_message(rows: Sequence[Parity], precision: EnginePrecision) -> str:
    """Return what is wrong with an engine in one line, or an empty string.

    The distances of every row must be within tolerance. Labels are counted over all rows together, because a
    row may have a single person.
    """
    tolerance = ENGINE_TOLERANCES[precision]
    bad = [row for row in rows if not passes(row, tolerance)]
    agreement = sum((row.top1_agreement or 0) * row.persons for row in rows) / sum(r.persons for r in rows)
    if not bad and agreement >= tolerance.top1_agreement:
        return ""
    worst = min(bad or rows, key=lambda row: -2 if math.isnan(row.cosine_min) else row.cosine_min)
    return (
        f"{precision} differs from the fp32 graph for {worst.persons} persons: cosine "
        f"{worst.cosine_min:.5f}, max {worst.max_abs:.1e}; {agreement:.0%} of all persons keep their labels; "
        f"expected {tolerance.cosine_min} or more, {worst.tolerance:.1e} or less, "
        f"{tolerance.top1_agreement:.0%} or more"
    )


def _row(
    check: ParityCheck,
    precision: EnginePrecision,
    feed: Feeds,
    expected: NDArray[np.float32],
    found: NDArray[np.float32],
) -> Parity:
    a, b = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (expected, found))
    difference = np.abs(a - b)
    cosine = cosine_similarity(a, b)
    kept = (check.labels(expected) == check.labels(found)).all(axis=0)  # (P,)
    return Parity(
        graph=check.graph,
        persons=len(expected),
        frames=_frames(feed),
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
        cosine_min=float(cosine.min()),
        cosine_mean=float(cosine.mean()),
        top1_agreement=float(kept.mean()),
        tolerance=ENGINE_TOLERANCES[precision].relative_max * float(a.std()),
        precision="fp16" if precision == "mixed" else precision,
        reference="fp32 graph",
        samples=len(expected),
    )


def _frames(feed: Feeds) -> int:
    """Return F of the frame encoder, T of the temporal encoder."""
    return len(feed["images"]) if "images" in feed else feed["embeddings"].shape[1]


def _sizes(persons: int, images: int) -> list[tuple[int, int]]:
    return sorted({(min(f, images), min(p, persons)) for f, p in SIZES})


def _demo_crops(spec: PreprocessSpec) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.float32]]]:
    """Return crops (S, S, 3) RGB of the demo's people over time, and patch weights (G,) of their heads."""
    crops, weights = [], []
    heads = head_boxes()
    for frame in islice(read_demo(), 0, _DEMO_FRAMES * _DEMO_STEP, _DEMO_STEP):
        rgb = np.ascontiguousarray(frame.image[:, :, ::-1])
        height, width = rgb.shape[:2]
        for head in heads:
            window = plan_crops([head], height, width, spec).windows[0]
            crops.append(crop(rgb, window, spec))
            weights.append(patch_weights(head, window, spec))
    return crops, weights[: len(heads)]
