"""Parity of a bundle's graphs on a device with its fp32 graphs on the CPU, without PyTorch.

Every batch runs three times: the first run allocates, the second captures a CUDA graph, the third replays it.
All three are compared. Sizes lie within, on and beyond the powers of two to which batches are padded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Backend, Feeds
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import Bundle
from emotion_runtime.names import GRAPHS, GraphName
from emotion_runtime.parity import ENGINE_TOLERANCES, RUNS, label_function
from emotion_runtime.parity_inputs import frame_encoder_feeds, subjects_in_one_crop
from emotion_runtime.preprocess import PreprocessSpec
from emotion_runtime.vectors import cosine_similarity

PERSONS = (1, 2, 3, 4, 5, 8, 11, 16, 17, 33)


@dataclass(frozen=True, slots=True)
class ParityData:
    """Batches, what the CPU makes of them, and what of it is compared.

    Attributes:
        frames: Batches of the frame encoder.
        pairs: A batch of the frame encoder whose persons 2 i and 2 i + 1 are two subjects in one crop.
        clips: Batches of the temporal encoder.
        expected: Outputs (P, D) of the fp32 graphs on the CPU, for `frames`, `clips`, and `pairs` at the end.
    """

    frames: Sequence[Feeds]
    pairs: Feeds
    clips: Sequence[Feeds]
    expected: dict[str, list[NDArray[np.float32]]]


def parity_data(bundle: Bundle, persons: Sequence[int] = PERSONS) -> ParityData:
    """Make all batches and run them on the CPU."""
    manifest = bundle.manifest
    encoder, temporal = (OnnxBackend(bundle.graph_path(name)) for name in GRAPHS)
    frames = _frame_batches(manifest.preprocess, persons)
    pairs = pairs_in_one_crop(manifest.preprocess)
    embeddings = [encoder.run(feeds)["embeddings"] for feeds in (*frames, pairs)]
    known, rng = np.concatenate(embeddings), np.random.default_rng(5)
    clips: list[Feeds] = [
        {"embeddings": known[rng.integers(0, len(known), (count, manifest.clip_frames))]} for count in persons
    ]
    features = [temporal.run(feeds)["features"] for feeds in clips]
    return ParityData(frames, pairs, clips, {"frame_encoder": embeddings, "temporal_encoder": features})


def pairs_in_one_crop(spec: PreprocessSpec) -> Feeds:
    """Return a batch of the demo's two people, both in one crop of the whole frame, frame by frame."""
    images, subjects = subjects_in_one_crop(spec)
    return {
        "images": np.stack(images),
        "frame_index": np.repeat(np.arange(len(images), dtype=np.int64), len(subjects)),
        "patch_weights": np.stack(subjects * len(images)),
    }


def parity_rows(
    bundle: Bundle, graph: GraphName, backend: Backend, data: ParityData
) -> Iterator[dict[str, Any]]:
    """Run every batch of a graph three times on a backend; yield a row per batch, the worst of the runs."""
    of_features, temporal = label_function(bundle), OnnxBackend(bundle.graph_path("temporal_encoder"))

    def labels(outputs: NDArray[np.float32]) -> NDArray[np.intp]:
        if graph == "temporal_encoder":
            return of_features(outputs)
        clips = np.repeat(outputs[:, None], bundle.manifest.clip_frames, axis=1)
        return of_features(temporal.run({"embeddings": clips})["features"])

    batches = [*data.frames, data.pairs] if graph == "frame_encoder" else data.clips
    for feeds, expected in zip(batches, data.expected[graph], strict=True):
        runs = [next(iter(backend.run(feeds).values())) for _ in range(RUNS)]
        row: dict[str, Any] = {
            "graph": graph,
            "persons": len(expected),
            "images": len(feeds["images"]) if "images" in feeds else None,
            "cosine_min": _lowest([cosine_similarity(expected, found) for found in runs]),
            "relative_max": _highest([np.abs(found - expected) / expected.std() for found in runs]),
            "labels_kept": min(
                float((labels(expected) == labels(found)).all(axis=0).mean()) for found in runs
            ),
            "runs_equal": all(np.array_equal(runs[0], found) for found in runs),
        }
        if feeds is data.pairs:
            row["pair_cosine_min"] = _lowest([pair_cosine(expected, found) for found in runs])
        yield {key: round(value, 8) if isinstance(value, float) else value for key, value in row.items()}


def pair_cosine(expected: NDArray[np.float32], found: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine between two outputs (P, D) of the difference of persons 2 i and 2 i + 1, (P / 2,).

    NaN where two subjects have the same embedding.
    """
    a, b = (rows[0::2] - rows[1::2] for rows in (expected, found))
    return cosine_similarity(a, b)


def parity_checks(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what passed, a check for each graph, precision and way to run it (the key "graphs")."""
    checks = []
    for key in sorted({(row["graph"], row["precision"], row["graphs"]) for row in rows}):
        own = [row for row in rows if (row["graph"], row["precision"], row["graphs"]) == key]
        tolerance = ENGINE_TOLERANCES[key[1]]
        persons = sum(row["persons"] for row in own)
        found = {
            "cosine": min(row["cosine_min"] for row in own),
            "largest difference": max(row["relative_max"] for row in own),
            "labels kept": sum(row["labels_kept"] * row["persons"] for row in own) / persons,
            "subjects": min((row["pair_cosine_min"] for row in own if "pair_cosine_min" in row), default=1),
        }
        passed = (
            found["cosine"] >= tolerance.cosine_min
            and found["largest difference"] <= tolerance.max_abs
            and found["labels kept"] >= tolerance.top1_agreement
            and found["subjects"] >= tolerance.subject_cosine
        )
        checks.append(
            {
                "check": " ".join(("parity,", *key)),
                "passed": passed,
                "found": ", ".join(f"{name} {value:.7g}" for name, value in found.items()),
                "expected": f"cosine {tolerance.cosine_min} or more, largest difference "
                f"{tolerance.max_abs} standard deviations or less, labels kept "
                f"{tolerance.top1_agreement} or more, cosine of the difference of two subjects in one crop "
                f"{tolerance.subject_cosine} or more",
            }
        )
    return checks


def _lowest(values: Sequence[NDArray[Any]]) -> float:
    """Return the lowest cosine; NaN, of an output that has no direction or is not finite, counts as -1."""
    return float(np.nan_to_num(values, nan=-1).min())


def _highest(values: Sequence[NDArray[Any]]) -> float:
    """Return the largest difference; what is not finite counts as a very large one, which JSON can hold."""
    return float(np.nan_to_num(values, nan=1e9, posinf=1e9).max())


def _frame_batches(spec: PreprocessSpec, persons: Sequence[int]) -> list[Feeds]:
    """Return batches of every size, once with all people in one crop and once with a crop per person."""
    pool, *_ = frame_encoder_feeds(spec, Limits())[-1]
    crops, weights = pool["images"], pool["patch_weights"]
    rng = np.random.default_rng(6)
    return [
        {
            "images": crops[rng.integers(0, len(crops), images)],
            "frame_index": np.arange(count, dtype=np.int64) % images,
            "patch_weights": weights[rng.integers(0, len(weights), count)],
        }
        for count in persons
        for images in sorted({1, count})
    ]
