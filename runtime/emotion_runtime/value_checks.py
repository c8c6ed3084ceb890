"""Leave out values of models that are not finite or not in view, and say so once."""

import logging

import numpy as np

from emotion_runtime.detectors.boxes import in_view
from emotion_runtime.errors import EmotionError
from emotion_runtime.metrics import Counts
from emotion_runtime.types import Detections, Frame

_log = logging.getLogger(__name__)
_HIGHEST_SCORE = 1.01  # above 1 by the rounding of fp16 and int8 networks


class ValueChecks:
    """Checks what the models of a pipeline give.

    Args:
        counts: Counts the values that were left out.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._warned = False  # of boxes that are out of view

    def usable(self, detections: Detections, frame: Frame) -> Detections:
        """Return the detections that are finite and in view; a detector of the user's own may give others.

        Raises:
            EmotionError: The detector returned something else, all boxes in fractions of the image, or scores
                above 1.
        """
        if not isinstance(detections, Detections):
            raise EmotionError(
                f"the detector returned a value of type {type(detections).__name__}; expected "
                "emotion_runtime.types.Detections(boxes, scores) with boxes (N, 4), x1, y1, x2, y2 in "
                "pixels, and scores (N,); without persons: Detections.empty()"
            )
        boxes = detections.boxes
        if len(boxes) and boxes.min() >= 0 and 0 < boxes.max() <= 1 and frame.image.size > 3:
            raise EmotionError(
                "the detector returned boxes between 0 and 1, within the first pixel, as if in fractions of "
                "the image; expected x1, y1, x2, y2 in pixels: multiply them by its width and height"
            )
        finite = np.isfinite(detections.boxes).all(axis=1) & np.isfinite(detections.scores)
        if not finite.all():
            self.count_invalid(int((~finite).sum()), "detector", frame.source)
            detections = detections.take(finite)
        if len(detections.scores) and detections.scores.max() > _HIGHEST_SCORE:
            raise EmotionError(
                f"the detector returned a score of {detections.scores.max():g}; expected 0 to 1: divide "
                "percentages by 100"
            )
        visible = in_view(detections, *frame.image.shape[:2])
        if len(visible.boxes) < len(detections.boxes) and not self._warned:
            self._warned = True
            _log.warning(
                "the detector gave boxes for source %s that are empty or outside the frame; they are left "
                "out, here and from now on; expected x1, y1, x2, y2 in pixels of the frame, with x1 < x2 and "
                "y1 < y2",
                frame.source,
            )
        return visible

    def count_invalid(self, count: int, origin: str, source: str) -> None:
        """Count values that a model (`origin`) gave for a source and that are not finite."""
        if not self._counts.invalid:
            _log.warning(
                "the %s gave values that are not finite for source %s; they are left out, here and from now "
                "on. Check this machine with emotion-runtime --doctor",
                origin,
                source,
            )
        self._counts.invalid += count
