"""Updates of people's predictions as the runtime makes them, from frames and boxes to probabilities."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_bench.rounds import interleave, ratios, spread
from emotion_bench.work import Limits, Work, work_of
from emotion_runtime.bundle import load_bundle
from emotion_runtime.encoder import Batch, FrameEncoder, TemporalEncoder
from emotion_runtime.heads import load_head
from emotion_runtime.open_backend import open_encoders
from emotion_runtime.preprocess import center_window, patch_weights
from emotion_runtime.subject import Subjects, plan_crops
from emotion_runtime.types import Box
from emotion_train.tables import percent

EVERY = 0.2  # seconds between two updates
Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class View:
    """People of one frame who are encoded.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        boxes: Boxes of their heads, in pixels.
    """

    image: Image
    boxes: Sequence[Box]


class Updates:
    """The models of a bundle on the CPU, and what they compute for a step.

    Args:
        bundle: Name or folder of the bundle.
        shared: All people of a frame share one crop, in which only the patch weights tell who is the subject.
            False: a crop per person, as the runtime does.
    """

    def __init__(self, bundle: str, *, shared: bool = False) -> None:
        self._loaded = load_bundle(bundle)
        frame, temporal = open_encoders("cpu", self._loaded, None)
        self.clip_frames = self._loaded.manifest.clip_frames
        self._spec = self._loaded.manifest.preprocess
        self._frame, self._temporal = FrameEncoder(frame, self._spec), TemporalEncoder(temporal)
        self._head = load_head(self._loaded)
        self._shared = shared

    def embed(self, views: Sequence[View]) -> NDArray[np.float32]:
        """Return the embeddings (P, D) of the people of several frames."""
        return self._frame.embed(self._batch(views))

    def predict(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        """Return the probabilities (P, C) of clips (T, D)."""
        return self._head(self._temporal.features(clips))

    def work(self, views: Sequence[View], clips: int) -> Work:
        """Return the work of the networks to embed these people and to predict so many clips."""
        batch = self._batch(views)
        images: dict[str, NDArray[Any]] = {
            "images": batch.images,
            "frame_index": batch.frame_index,
            "patch_weights": batch.patch_weights,
        }
        width = self._loaded.manifest.embedding_dim
        embeddings = np.zeros((clips, self.clip_frames, width), np.float32)
        folder = self._loaded.folder
        return work_of(folder / "frame_encoder.onnx", images) + work_of(
            folder / "temporal_encoder.onnx", {"embeddings": embeddings}
        )

    def _batch(self, views: Sequence[View]) -> Batch:
        return self._frame.gather([(view.image, self._subjects(view)) for view in views])

    def _subjects(self, view: View) -> Subjects:
        height, width = view.image.shape[:2]
        if not self._shared:
            return plan_crops(view.boxes, height, width, self._spec)
        window = center_window(height, width, self._spec)
        weights = [patch_weights(box, window, self._spec) for box in view.boxes]
        return Subjects([window], np.zeros(len(view.boxes), np.int64), np.stack(weights))


def compare_updates(
    calls: Mapping[str, Callable[[], object]],
    works: Mapping[str, Work],
    baseline: str,
    *,
    limits: Limits,
    rounds: int,
) -> list[dict[str, Any]]:
    """Time ways of an update in turn and return a row for each.

    Args:
        calls: Make one update each, by name.
        works: What the networks of each have to do.
        baseline: Name of the way whose times are divided by those of each, round by round.
        limits: The limits of this machine.
        rounds: Number of rounds.
    """
    seconds, rows = interleave(calls, rounds=rounds), []
    for name, work in works.items():
        ms, least = spread([1000 * each for each in seconds[name]]), limits.ms(work)
        rows.append(
            {
                "contender": name,
                "ms": ms,
                "times_faster": spread(ratios(seconds[baseline], seconds[name])),
                "gflop": round(work.flops / 1e9, 3),
                "mbytes": round(work.bytes / 1e6, 1),
                "limit_ms": round(least, 3),
                "fraction_of_limit": round(least / ms["median"], 3),
                "fraction_of_time": round(ms["median"] / 1000 / EVERY, 4),
            }
        )
    return rows


HEADER = ("ms (min to max)", "times faster", "limit, ms", "of it reached", "of the time")


def update_cells(row: Mapping[str, Any], digits: int) -> list[str]:
    """Return the cells of a row of `compare_updates` under `HEADER`; times have so many digits."""
    median, low, high = (f"{row['ms'][name]:.{digits}f}" for name in ("median", "min", "max"))
    return [
        f"{median} ({low} to {high})",
        f"{row['times_faster']['median']:.2f}",
        f"{row['limit_ms']:.{digits}f}",
        percent(row["fraction_of_limit"], 0),
        percent(row["fraction_of_time"]),
    ]
