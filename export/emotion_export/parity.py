"""Is the exported graph the model? ONNX Runtime against torch, CPU, float32, and what is tolerated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from emotion_export.graphs import GraphSource
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import GraphName, Parity
from emotion_runtime.encoder import Batch
from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec, Window, crop, patch_weights
from emotion_runtime.sources import open_source
from emotion_runtime.subject import plan


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Largest tolerated difference between graph and torch model, on embeddings of about unit variance."""

    max_abs: float
    mean_abs: float
    cosine_min: float


# The one table: the export refuses by it and the tests assert it. Measured differences are 1e-6 to 1e-5; a
# wrong operator, a constant that was baked in or a dropped subject are 1e-2 and more.
TOLERANCES: Final[Mapping[GraphName, Tolerance]] = MappingProxyType(
    {
        "frame_encoder": Tolerance(max_abs=1e-4, mean_abs=1e-5, cosine_min=0.999999),
        "temporal_encoder": Tolerance(max_abs=1e-4, mean_abs=1e-5, cosine_min=0.999999),
    }
)

# (pictures, persons): a graph with a number of either baked in fails at one of them.
SIZES: Final = ((1, 1), (2, 1), (1, 3), (2, 3), (2, 8))

_SCENE = (360, 640)  # height, width of the drawn scenes, pixels
_REAL_FRAMES, _REAL_STEP = 3, 20  # of each video


def parity_scenes(videos: Sequence[str]) -> list[NDArray[np.uint8]]:
    """Frames (H, W, 3) uint8 BGR to compare on: noise, a drawn scene, the demo's portraits, frames of videos.

    Raises:
        EmotionError: a video cannot be read, or has no frame.

    """
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 256, (*_SCENE, 3), dtype=np.uint8), _drawn_scene(rng)]
    for uri in ("demo", *videos):
        with open_source(uri) as source:
            scenes.extend(frame.image for frame in islice(source, 0, _REAL_FRAMES * _REAL_STEP, _REAL_STEP))
    return scenes


def parity_batches(
    spec: PreprocessSpec, scenes: Sequence[NDArray[np.uint8]]
) -> dict[tuple[int, int], list[Batch]]:
    """Batches for the frame encoder by (pictures, persons), cropped as the runtime does; all scenes are used.

    Persons are boxes at random places, in turn: covered in part, not in the picture at all (zeros), any
    weights, the whole picture.
    """
    rng = np.random.default_rng(1)
    rounds = -(-len(scenes) // sum(pictures for pictures, _ in SIZES))
    endless, kinds = cycle(scenes), cycle(range(4))
    return {
        (pictures, persons): [
            _batch(spec, list(islice(endless, pictures)), list(islice(kinds, persons)), rng)
            for _ in range(rounds)
        ]
        for pictures, persons in SIZES
    }


def frame_encoder_parity(
    source: GraphSource, path: Path, batches: Mapping[tuple[int, int], list[Batch]]
) -> tuple[list[Parity], NDArray[np.float32]]:
    """Rows of the report, one a size of batch, and torch's embeddings (N, D) of all batches."""
    rows, embeddings = [], []
    backend = OnnxBackend(path)
    for (pictures, persons), group in batches.items():
        feeds: list[dict[str, NDArray[Any]]] = [
            {"images": b.images, "frame_index": b.frame_index, "patch_weights": b.patch_weights}
            for b in group
        ]
        expected = np.concatenate([_by_torch(source, feed) for feed in feeds])
        found = np.concatenate([backend.run(feed)[source.output] for feed in feeds])
        rows.append(compare(source.name, (pictures, persons), expected, found))
        embeddings.append(expected)
    return rows, np.concatenate(embeddings)


def temporal_encoder_parity(source: GraphSource, path: Path, embeddings: NDArray[np.float32]) -> list[Parity]:
    """Rows of the report, one a number of persons; `frames` is T.

    embeddings: (N, D) of the frame encoder, of which clips are drawn, some with repeated frames as at a
    person's first second.
    """
    rng = np.random.default_rng(2)
    backend = OnnxBackend(path)
    _, frames, _ = source.inputs["embeddings"].shape
    rows = []
    for persons in sorted({persons for _, persons in SIZES}):
        feed = {"embeddings": embeddings[rng.integers(0, len(embeddings), (persons, frames))]}  # (P, T, D)
        expected, found = _by_torch(source, feed), backend.run(feed)[source.output]
        rows.append(compare(source.name, (frames, persons), expected, found))
    return rows


def compare(
    graph: GraphName, size: tuple[int, int], expected: NDArray[np.float32], found: NDArray[np.float32]
) -> Parity:
    """One row of the report. expected, found: (P, D) of torch and of the graph. size: (frames, persons)."""
    if expected.shape != found.shape:
        raise EmotionError(f"{graph}: the graph gives {found.shape}, the torch model {expected.shape}")
    a, b = expected.astype(np.float64), found.astype(np.float64)
    difference = np.abs(a - b)
    with np.errstate(invalid="ignore"):  # what is not a number stays so, and is refused
        cosine = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    frames, persons = size
    return Parity(
        graph,
        persons,
        frames,
        float(difference.max()),
        float(difference.mean()),
        float(cosine.min()),
        TOLERANCES[graph].max_abs,
    )


def within_tolerance(row: Parity, tolerance: Tolerance) -> bool:
    """False, too, where a figure is not a number."""
    return (
        row.max_abs <= tolerance.max_abs
        and row.mean_abs <= tolerance.mean_abs
        and row.cosine_min >= tolerance.cosine_min
    )


def refuse_differences(rows: Sequence[Parity], tolerances: Mapping[GraphName, Tolerance]) -> None:
    """Refuse a graph that is not the model.

    Raises:
        EmotionError: a row is beyond the tolerance of its graph.

    """
    for name, tolerance in tolerances.items():
        bad = [row for row in rows if row.graph == name and not within_tolerance(row, tolerance)]
        if bad:
            worst = max(bad, key=lambda row: row.max_abs)
            raise EmotionError(
                f"{name}.onnx differs from the torch model with {worst.persons} persons, {worst.frames} "
                f"frames: max {worst.max_abs:.1e}, mean {worst.mean_abs:.1e}, cosine {worst.cosine_min:.7f}; "
                f"expected {tolerance.max_abs:.0e}, {tolerance.mean_abs:.0e}, {tolerance.cosine_min} or "
                "better. Nothing was written: check that the checkpoint's weights are finite, and export "
                "with the versions of pyproject.toml"
            )


def parity_table(rows: Sequence[Parity]) -> str:
    """The report as a table that terminals and Markdown both show."""
    lines = [
        "| graph            | persons | frames | max abs | mean abs | min cosine  | tolerated |",
        "|------------------|---------|--------|---------|----------|-------------|-----------|",
    ]
    lines += [
        f"| {row.graph:16} | {row.persons:7} | {row.frames:6} | {row.max_abs:7.1e} | {row.mean_abs:8.1e} "
        f"| {row.cosine_min:.9f} | {row.tolerance:9.0e} |"
        for row in rows
    ]
    return "\n".join(lines)


def _by_torch(source: GraphSource, feed: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    with torch.inference_mode():
        output = source.module(*(torch.from_numpy(feed[name]) for name in source.inputs))
    return np.asarray(output.numpy(), np.float32)


def _drawn_scene(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Smooth shading with edges: what pictures have and noise has not."""
    height, width = _SCENE
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / a + y / b) for a, b in rng.uniform(15, 90, (3, 2))]
    scene: NDArray[np.uint8] = np.clip(128 + 100 * np.stack(waves, axis=-1), 0, 255).astype(np.uint8)
    for _ in range(12):
        center = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        color = [int(v) for v in rng.integers(0, 256, 3)]
        cv2.circle(scene, center, int(rng.integers(10, 70)), color, thickness=-1)
    return scene


def _batch(
    spec: PreprocessSpec, scenes: Sequence[NDArray[np.uint8]], kinds: Sequence[int], rng: np.random.Generator
) -> Batch:
    """kinds: of each person, see `parity_batches`."""
    windows = [_window(scene, spec, rng) for scene in scenes]
    crops = [
        crop(np.ascontiguousarray(scene[:, :, ::-1]), window, spec)
        for scene, window in zip(scenes, windows, strict=True)
    ]
    index = rng.integers(0, len(scenes), len(kinds))
    weights = [_weights(kind, windows[i], spec, rng) for kind, i in zip(kinds, index, strict=True)]
    return Batch(np.stack(crops), index.astype(np.int64), np.stack(weights))


def _weights(
    kind: int, window: Window, spec: PreprocessSpec, rng: np.random.Generator
) -> NDArray[np.float32]:
    x1, y1, x2, y2 = window.source
    left, right = np.sort(rng.uniform(x1 - 10, x2, 2))
    top, bottom = np.sort(rng.uniform(y1 - 10, y2, 2))
    kinds: tuple[NDArray[np.float32], ...] = (
        patch_weights((left, top, right + 8, bottom + 8), window, spec),
        np.zeros(spec.patches, np.float32),
        rng.random(spec.patches, np.float32),
        np.ones(spec.patches, np.float32),
    )
    return kinds[kind]


def _window(scene: NDArray[np.uint8], spec: PreprocessSpec, rng: np.random.Generator) -> Window:
    """Of a head somewhere in the scene."""
    height, width = scene.shape[:2]
    side = rng.uniform(0.15, 0.4) * min(height, width)
    x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
    return plan([(x, y, x + side, y + 1.2 * side)], height, width, spec).windows[0]
