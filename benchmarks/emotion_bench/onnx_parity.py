"""Parity of a bundle's graphs on a device with its fp32 graphs on the CPU, without PyTorch.

It is the parity check of the runtime at other sizes: within, on and beyond the powers of two to which batches
are padded, and with all of the demo's people in one crop.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from emotion_runtime.backends.base import Backend, Feeds
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.bundle import Bundle
from emotion_runtime.manifest import Parity
from emotion_runtime.names import GraphName, Precision
from emotion_runtime.parity import ENGINE_TOLERANCES, Comparison, ParityCheck, bundle_reference, failure
from emotion_runtime.parity_inputs import frame_encoder_feeds
from emotion_runtime.preprocess import PreprocessSpec

PERSONS = (1, 2, 3, 4, 5, 8, 11, 16, 17, 33, 64, 65)

ParityData = Mapping[GraphName, Sequence[Comparison]]


def parity_data(bundle: Bundle, persons: Sequence[int] = PERSONS) -> ParityData:
    """Make all batches of both graphs and run them on the CPU; the last has two subjects in each crop."""
    spec = bundle.manifest.preprocess
    batches = [*_frame_batches(spec, persons), pairs_in_one_crop(spec)]
    return bundle_reference(bundle).compare([[feeds] for feeds in batches])


def pairs_in_one_crop(spec: PreprocessSpec) -> Feeds:
    """Return a batch of the demo's two people, both in one crop of the whole frame, frame by frame."""
    _, one, other = frame_encoder_feeds(spec, Limits(16, 16, crop_per_person=True))[-1]
    people = {name: np.concatenate([one[name], other[name]]) for name in ("frame_index", "patch_weights")}
    return {"images": one["images"], **people}


def parity_rows(
    backend: Backend, compared: Sequence[Comparison], precision: Precision
) -> Iterator[dict[str, Any]]:
    """Run every batch three times on a backend; yield a row of the parity report per batch."""
    for each in compared:
        row = msgspec.to_builtins(ParityCheck([each]).measure(backend, precision)[0])
        # JSON has no word for what is not finite, such as the cosine of an output without a direction.
        worst = {name: 1e9 if name.endswith("abs") else -1.0 for name in row}
        yield {
            name: value if not isinstance(value, float) or np.isfinite(value) else worst[name]
            for name, value in row.items()
        }


def parity_checks(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what passed, a check for each graph, precision and way to run it (the key "graphs")."""
    checks = []
    for graph, precision, graphs in dict.fromkeys(map(_key, rows)):
        own = [row for row in rows if _key(row) == (graph, precision, graphs)]
        stored = [msgspec.convert({k: v for k, v in row.items() if k != "graphs"}, Parity) for row in own]
        wrong = failure(stored, ENGINE_TOLERANCES[precision])
        checks.append(
            {
                "check": f"parity, {graph} {precision} {graphs}",
                "passed": not wrong,
                "found": wrong or f"lowest cosine {min(row.cosine_min for row in stored):.7g}",
                "expected": f"the tolerances of an engine in {precision}",
            }
        )
    return checks


def _key(row: dict[str, Any]) -> tuple[str, Precision, str]:
    return row["graph"], row["precision"], row["graphs"]


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
