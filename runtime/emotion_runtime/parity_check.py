"""Is an engine the model? Held against the fp32 graph in ONNX Runtime, on the device that will run it.

Vision transformers in fp16 come out of TensorRT silently wrong often enough (NVIDIA/TensorRT#2709, #4373,
#4723) that no engine is used before it has passed. Free of torch: a runtime holds the gate, too, for engines
that were built where no GPU was.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.bundle import Bundle
from emotion_runtime.engines import EnginePrecision, EngineRejected
from emotion_runtime.heads import load_head
from emotion_runtime.manifest import GraphName, Manifest, Parity
from emotion_runtime.preprocess import PreprocessSpec, crop, patch_weights
from emotion_runtime.sources.demo import head_boxes, read_demo
from emotion_runtime.subject import plan_crops

if TYPE_CHECKING:  # backends import this module
    from emotion_runtime.backends.base import Backend, Feeds
    from emotion_runtime.backends.buckets import Limits

Labels = Callable[[NDArray[np.float32]], NDArray[np.intp]]  # of a graph's outputs: (P, D) -> (heads, P)


@dataclass(frozen=True, slots=True)
class EngineTolerance:
    """What an engine may differ from the fp32 graph by.

    relative_max: largest difference of any value, in standard deviations of the expected ones. cosine_min: of
    any person. top1_agreement: share of all persons who must keep the label of every head.
    """

    relative_max: float
    cosine_min: float
    top1_agreement: float


# fp32 with TF32 off differs by the order of sums alone, 1e-6 to 1e-5. fp16 has 11 bits: ViT-B/32 with
# LayerNorm and softmax in fp32 measured a cosine of 0.999999 and 4e-3; reported broken engines had 0.65 and
# less. int8 has 8 bits, and only its direction matters to the heads. A check has 28 persons or more: even in
# fp32 one may stand between two labels.
ENGINE_TOLERANCES: Final[Mapping[EnginePrecision, EngineTolerance]] = MappingProxyType(
    {
        "fp32": EngineTolerance(relative_max=1e-3, cosine_min=0.99999, top1_agreement=0.95),
        "mixed": EngineTolerance(relative_max=0.05, cosine_min=0.9995, top1_agreement=0.95),
        "fp16": EngineTolerance(relative_max=0.05, cosine_min=0.9995, top1_agreement=0.95),
        "int8": EngineTolerance(relative_max=1.0, cosine_min=0.98, top1_agreement=0.9),
    }
)

SIZES: Final = ((1, 1), (1, 3), (2, 3), (2, 8), (1, 16), (4, 16))  # (pictures, persons)

_DEMO_FRAMES, _DEMO_STEP = 16, 5


def frame_encoder_feeds(spec: PreprocessSpec, *, persons: int, images: int) -> list["Feeds"]:
    """Batches for the frame encoder, of every size in `SIZES` that the engine takes, always the same.

    Pictures: windows of the demo's people, and noise. Persons: a head, nobody (zeros), any weights, all of
    the picture. persons, images: most of one run.
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
) -> list["Feeds"]:
    """Batches of clips (P, T, D), drawn from embeddings (N, D) of the fp32 frame encoder."""
    rng = np.random.default_rng(8)
    shape = (manifest.clip_frames,)
    return [
        {"embeddings": embeddings[rng.integers(0, len(embeddings), (p, *shape))]}
        for p in sorted({p for _, p in _sizes(persons, 1)})
    ]


@dataclass(frozen=True, slots=True)
class ParityCheck:
    """What an engine of a graph has to pass.

    expected: (P, D) of the fp32 graph, for each of `feeds`. labels: the likeliest one of each head.
    """

    graph: str
    feeds: Sequence["Feeds"]
    expected: Sequence[NDArray[np.float32]]
    labels: Labels

    def run(self, engine: "Backend", precision: EnginePrecision) -> tuple[list[Parity], str]:
        """Rows of the report, one a batch, and what is wrong in one line; empty when nothing is.

        Raises:
            EngineRejected: the engine gives another shape.

        """
        rows = compare(self, precision, engine)
        return rows, failures(rows, precision)


def make_parity_check(bundle: Bundle, graph: GraphName, limits: "Limits") -> ParityCheck:
    """The check for engines of a bundle's graph: its fp32 graph answers in ONNX Runtime, on the CPU.

    Raises:
        EmotionError: ONNX Runtime is not installed or cannot load a graph.

    """
    from emotion_runtime.backends.onnx import OnnxBackend  # noqa: PLC0415 - backends import this module

    encoder, temporal = (
        OnnxBackend(bundle.graph_path(name)) for name in ("frame_encoder", "temporal_encoder")
    )
    of_features = label_function(bundle)

    def of_embeddings(embeddings: NDArray[np.float32]) -> NDArray[np.intp]:
        """Each repeated to a clip, as in a person's first moment."""
        clips = np.repeat(embeddings[:, None], bundle.manifest.clip_frames, axis=1)  # (P, T, D)
        return of_features(temporal.run({"embeddings": clips})["features"])

    feeds = frame_encoder_feeds(bundle.manifest.preprocess, persons=limits.persons, images=limits.images)
    expected = [encoder.run(feed)["embeddings"] for feed in feeds]
    if graph == "frame_encoder":
        return ParityCheck(graph, feeds, expected, of_embeddings)
    feeds = temporal_encoder_feeds(bundle.manifest, np.concatenate(expected), persons=limits.persons)
    return ParityCheck(graph, feeds, [temporal.run(feed)["features"] for feed in feeds], of_features)


def label_function(bundle: Bundle) -> Labels:
    """What a bundle's heads make of features (P, D).

    Left out are experimental heads, whose labels are too near to each other to say much, unless it is the one
    that people see, and regressions.
    """
    manifest = bundle.manifest
    heads = [
        load_head(bundle, name)
        for name, head in manifest.heads.items()
        if head.activation != "identity" and (name == manifest.default_head or not head.experimental)
    ]

    def labels(features: NDArray[np.float32]) -> NDArray[np.intp]:
        with np.errstate(invalid="ignore"):  # what is not a number is refused by its distance
            return np.stack([head(features).argmax(axis=1) for head in heads])

    return labels


def compare(check: ParityCheck, precision: EnginePrecision, engine: "Backend") -> list[Parity]:
    """Run an engine on every batch and hold its second run against the expected (P, D); one row a batch.

    Raises:
        EngineRejected: the engine gives another shape.

    """
    rows = []
    for feed, expected in zip(check.feeds, check.expected, strict=True):
        engine.run(feed)
        (found,) = engine.run(feed).values()  # a size that comes again is replayed from what was captured
        if found.shape != expected.shape:
            raise EngineRejected(f"{check.graph}: the engine gives {found.shape}, expected {expected.shape}")
        rows.append(_row(check, precision, feed, expected, found))
    return rows


def passes(row: Parity, tolerance: EngineTolerance) -> bool:
    """Whether a row's distances are tolerated; False, too, where a figure is not a number."""
    return row.max_abs <= row.tolerance and row.cosine_min >= tolerance.cosine_min


def failures(rows: Sequence[Parity], precision: EnginePrecision) -> str:
    """What is wrong with an engine in one line; empty when nothing is.

    Distances count in every row, labels in all rows together: a row may be one person.
    """
    tolerance = ENGINE_TOLERANCES[precision]
    bad = [row for row in rows if not passes(row, tolerance)]
    agreement = sum((row.top1_agreement or 0) * row.persons for row in rows) / sum(r.persons for r in rows)
    if not bad and agreement >= tolerance.top1_agreement:
        return ""
    worst = min(bad or rows, key=lambda row: -2 if math.isnan(row.cosine_min) else row.cosine_min)
    return (
        f"{precision} differs from the fp32 graph with {worst.persons} persons: cosine "
        f"{worst.cosine_min:.5f}, max {worst.max_abs:.1e}; of all persons {agreement:.0%} keep their labels; "
        f"expected {tolerance.cosine_min} or more, {worst.tolerance:.1e} or less, "
        f"{tolerance.top1_agreement:.0%} or more"
    )


def _row(
    check: ParityCheck,
    precision: EnginePrecision,
    feed: "Feeds",
    expected: NDArray[np.float32],
    found: NDArray[np.float32],
) -> Parity:
    from emotion_runtime.backends.agreement import cosines  # noqa: PLC0415 - backends import this module

    a, b = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (expected, found))
    difference = np.abs(a - b)
    cosine = cosines(a, b)
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


def _frames(feed: "Feeds") -> int:
    """F of the frame encoder, T of the temporal encoder."""
    return len(feed["images"]) if "images" in feed else feed["embeddings"].shape[1]


def _sizes(persons: int, images: int) -> list[tuple[int, int]]:
    return sorted({(min(f, images), min(p, persons)) for f, p in SIZES})


def _demo_crops(spec: PreprocessSpec) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.float32]]]:
    """Crops (S, S, 3) RGB of the demo's two people over time, and the weights (G,) of their heads."""
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
