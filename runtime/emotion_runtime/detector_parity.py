"""The parity check of detectors: the boxes and scores of an engine, and those of ONNX Runtime on the CPU.

As for the encoders (`parity`), no engine is used before it has passed on the device that will run it. The
frames show the people of the demo at several sizes and places, each row of a batch another one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from types import MappingProxyType
from typing import Any, Final, Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Backend, Feeds, Outputs
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.detectors.agreement import Agreement, compare_detections
from emotion_runtime.detectors.graph import INPUT, DetectorGraph, Size
from emotion_runtime.detectors.network import NetworkDetector, Placement
from emotion_runtime.errors import EmotionError, EngineRejected
from emotion_runtime.manifest import Parity
from emotion_runtime.names import EnginePrecision, Precision
from emotion_runtime.parity import RUNS, ParityCheck
from emotion_runtime.sources.demo import read_demo
from emotion_runtime.types import Detections
from emotion_runtime.vectors import cosine_similarity

DetectorPrecision = Literal[EnginePrecision, "bf16"]

MOST_FRAMES = 8  # of one run
_DEMO_STEP = 9  # frames of the demo between two that are used
_GREY = 114
_SIZES = (1.0, 0.7, 0.45)  # of the demo's frame, relative to the largest that fits


@dataclass(frozen=True, slots=True)
class DetectorTolerance:
    """How much an engine of a detector may differ from ONNX Runtime. No box may be missing or added.

    Attributes:
        iou_min: Lowest intersection over union of a box with the expected one.
        score_max: Largest difference of a score.
        cosine_min: Lowest cosine of any output of a frame, which also covers frames without people.
    """

    iou_min: float
    score_max: float
    cosine_min: float


_HALF = DetectorTolerance(iou_min=0.95, score_max=0.02, cosine_min=0.999)
# bf16 has 8 bits: boxes and scores are as good as in fp16, but where nobody is, outputs of the face detector
# measured a cosine of 0.97.
DETECTOR_TOLERANCES: Final[Mapping[DetectorPrecision, DetectorTolerance]] = MappingProxyType(
    {
        "fp32": DetectorTolerance(iou_min=0.99, score_max=0.005, cosine_min=0.9999),
        "mixed": _HALF,
        "fp16": _HALF,
        "bf16": DetectorTolerance(iou_min=0.95, score_max=0.02, cosine_min=0.9),
    }
)


def detector_limits(graph: DetectorGraph) -> Limits:
    """Return the largest batch of a detector: its rows are frames, which count as people."""
    most = 1 if graph.one_by_one else MOST_FRAMES
    return Limits(most, most)


@dataclass(frozen=True, slots=True)
class DetectorCheck:
    """The batches that an engine of a detector is checked with, and what is expected.

    Attributes:
        graph: Name of the engine.
        detector: Turns outputs into boxes.
        size: (height, width) of the frames.
        feeds: Batches of each size, the largest last.
        expected: Outputs of ONNX Runtime for each batch.
    """

    graph: str
    detector: NetworkDetector
    size: Size
    feeds: Sequence[Sequence[Feeds]]
    expected: Sequence[Sequence[Outputs]]

    def run(self, engine: Backend, precision: DetectorPrecision) -> tuple[list[Parity], str]:
        """See `ParityCheck`; ends at the first size that fails."""
        tolerance = DETECTOR_TOLERANCES[precision]
        rows: list[Parity] = []
        for group, outputs in zip(self.feeds, self.expected, strict=True):
            try:
                row, agreement = self._compare(engine, precision, group, outputs)
            except EngineRejected:
                raise
            except EmotionError as error:  # the values are not those of a detector, such as NaN
                return rows, f"{precision}: {error}"
            rows.append(row)
            if not _passes(row, agreement, tolerance):
                return rows, (
                    f"{precision} differs from the fp32 graph for {row.frames} frames: {agreement.missing} "
                    f"of {agreement.boxes} boxes are missing, {agreement.extra} are new, lowest overlap "
                    f"{agreement.iou_min:.3f}, scores differ by up to {agreement.score_max:.3f}, cosine "
                    f"{row.cosine_min:.5f}; expected the same boxes, {tolerance.iou_min} or more, "
                    f"{tolerance.score_max} or less, {tolerance.cosine_min} or more"
                )
        return rows, ""

    def _compare(
        self,
        engine: Backend,
        precision: DetectorPrecision,
        group: Sequence[Feeds],
        outputs: Sequence[Outputs],
    ) -> tuple[Parity, Agreement]:
        expected, found, cosines, differences = [], [], [], []
        for feed, right in zip(group, outputs, strict=True):
            boxes = self._detections(right)
            for _ in range(RUNS):  # the second one is captured as a CUDA graph, and later ones replay it
                run = engine.run(feed)
                for name, values in right.items():
                    if run[name].shape != values.shape:
                        raise EngineRejected(
                            f"{self.graph}: the engine's output {name} has shape {run[name].shape}, "
                            f"expected {values.shape}"
                        )
                    a, b = (
                        self.detector.comparable(each).reshape(len(each), -1) for each in (values, run[name])
                    )
                    cosines.append(cosine_similarity(a, b))
                    differences.append(np.abs(a - b))
                expected += boxes
                found += self._detections(run)
        agreement = compare_detections(expected, found, score=self.detector.score)
        tolerance = DETECTOR_TOLERANCES[precision]
        row = Parity(
            graph=self.graph,
            persons=0,
            frames=len(group[0][INPUT]),
            max_abs=0.0 if np.isnan(agreement.score_max) else agreement.score_max,
            mean_abs=float(np.mean([each.mean() for each in differences])),
            cosine_min=float(np.min(np.concatenate(cosines))),
            cosine_mean=float(np.mean(np.concatenate(cosines))),
            tolerance=tolerance.score_max,
            precision="fp16" if precision in ("mixed", "bf16") else cast("Precision", precision),
            reference="fp32 graph",
            samples=agreement.boxes,
        )
        return row, agreement

    def _detections(self, outputs: Outputs) -> list[Detections]:
        placement = Placement(self.size, (0, 0), (1.0, 1.0))
        names = self.detector.graph.outputs
        count = len(outputs[names[0]])
        with np.errstate(all="ignore"):  # values of a wrong engine
            return [
                self.detector.decode([outputs[name][row] for name in names], placement, self.size)
                for row in range(count)
            ]


Check = ParityCheck | DetectorCheck


def make_detector_check(detector: NetworkDetector, size: Size, name: str, limits: Limits) -> DetectorCheck:
    """Make the check for engines of a detector by running its graph in ONNX Runtime on the CPU.

    Args:
        detector: The detector.
        size: (height, width) of the frames.
        name: Name of the engine, for messages.
        limits: The largest batch.
    """
    frames, names = demo_frames(size, 2 * limits.persons), detector.graph.outputs
    feeds: list[list[Feeds]] = []
    for count in sorted({count for _, count in limits.sizes()}):
        starts = (0, len(frames) // 2 + 1)
        feeds.append([{INPUT: np.stack(list(islice(cycle(frames), at, at + count)))} for at in starts])
    expected = [[_reference(detector, names, feed[INPUT]) for feed in group] for group in feeds]
    return DetectorCheck(name, detector, size, feeds, expected)


def _reference(detector: NetworkDetector, names: Sequence[str], frames: NDArray[Any]) -> Outputs:
    runs = [detector.reference.run(frame[None]) for frame in frames]
    return {name: np.concatenate(values) for name, values in zip(names, zip(*runs, strict=True), strict=True)}


def demo_frames(size: Size, count: int) -> list[NDArray[np.uint8]]:
    """Return frames (height, width, 3) that show the demo's people; every second one is mirrored."""
    frames = []
    height, width = size
    for index, frame in enumerate(islice(read_demo(_DEMO_STEP), count)):
        image = frame.image[:, :: -1 if index % 2 else 1]
        fit = min(height / image.shape[0], width / image.shape[1]) * _SIZES[index % len(_SIZES)]
        columns, rows = (max(int(side * fit), 1) for side in image.shape[1::-1])
        canvas = np.full((height, width, 3), _GREY, np.uint8)
        top, left = (index * 37) % (height - rows + 1), (index * 53) % (width - columns + 1)
        canvas[top : top + rows, left : left + columns] = cv2.resize(
            np.ascontiguousarray(image), (columns, rows), interpolation=cv2.INTER_AREA
        )
        frames.append(canvas)
    return frames


def _passes(row: Parity, agreement: Agreement, tolerance: DetectorTolerance) -> bool:
    """Return whether an engine finds the same people; False if a value is NaN and somebody is expected."""
    same = agreement.missing == agreement.extra == 0
    boxes = agreement.iou_min >= tolerance.iou_min and agreement.score_max <= tolerance.score_max
    return row.cosine_min >= tolerance.cosine_min and same and (boxes or agreement.boxes == 0)
