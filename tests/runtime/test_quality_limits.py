"""The limits of quality on faces with labels: above them most right labels are kept, far below few are."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_runtime.bundle import load_bundle
from emotion_runtime.detectors.centerface import head_box
from emotion_runtime.encoder import FrameEncoder, TemporalEncoder
from emotion_runtime.heads import load_head
from emotion_runtime.open_backend import open_encoders
from emotion_runtime.quality import sharpness
from emotion_runtime.subject import plan_crops

LIMITS = load_bundle("nano").manifest.quality
FACES = 200
# Where CenterFace finds the face in a square of FER2013, in sides of the square.
FACE = np.array([0.11, 0.05, 0.89, 0.97], np.float32)
HEAD_WIDTH = 1.17  # of the head around it, in sides of the square
SPELLING = {"angry": "anger", "happy": "happiness", "sad": "sadness"}


class Faces:
    """Test faces with their labels, and the shipped model."""

    def __init__(self, path: Path) -> None:
        bundle = load_bundle("nano")
        frame, temporal = open_encoders("cpu", bundle, None)
        self.encoder, self.temporal = (
            FrameEncoder(frame, bundle.manifest.preprocess),
            TemporalEncoder(temporal),
        )
        self.head, self.frames = load_head(bundle, None), bundle.manifest.clip_frames
        with np.load(path) as archive:
            data, offsets = archive["test_bytes"], archive["test_offsets"]
            rows = [row for row in range(len(offsets) - 1) if offsets[row + 1] > offsets[row]]
            rows = rows[:: len(rows) // FACES][:FACES]  # they are sorted by label
            self.images = [cv2.imdecode(data[offsets[row] : offsets[row + 1]], 0) for row in rows]
            names = [str(name).lower() for name in archive["classes"]]
            labels = [SPELLING.get(name, name) for name in names]
            self.truth = [labels[archive["test_labels"][row]] for row in rows]

    def right(self, head_px: float, blur: float = 0.0) -> tuple[float, NDArray[np.float64]]:
        """Return the fraction of right labels and the sharpness of each face.

        Args:
            head_px: Width of the heads.
            blur: Standard deviation of a blur, in widths of the head.
        """
        side = round(head_px / HEAD_WIDTH)
        whole = head_box(FACE * side)
        box = tuple(np.clip(whole, 0, side).tolist())
        views, sharp = [], []
        for image in self.images:
            face = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
            if blur:
                face = cv2.GaussianBlur(face, (0, 0), blur * head_px, borderType=cv2.BORDER_REPLICATE)
            face = cv2.cvtColor(face, cv2.COLOR_GRAY2BGR)
            sharp.append(sharpness(face, tuple(whole.tolist())))
            views.append((face, plan_crops([box], side, side, self.encoder.spec)))
        embeddings = self.encoder.embed(self.encoder.gather(views))
        clips = [np.repeat(embedding[None], self.frames, axis=0) for embedding in embeddings]
        best = self.head(self.temporal.features(clips)).argmax(axis=1)
        hits = [self.head.labels[row] == true for row, true in zip(best, self.truth, strict=True)]
        return float(np.mean(hits)), np.array(sharp, np.float64)


@pytest.mark.slow
def test_labels_are_mostly_kept_at_the_limits_and_mostly_lost_below(shared_data: Path) -> None:
    faces = Faces(shared_data / "data" / "fer2013_plus.npz")
    good, sharp = faces.right(56)
    assert good > 0.5
    assert (sharp > LIMITS.sharpness).all()
    assert faces.right(LIMITS.head_px)[0] > 0.6 * good
    assert faces.right(LIMITS.head_px / 2)[0] < 0.6 * good
    slight, sharp = faces.right(56, blur=3 / 160)
    assert slight > 0.8 * good
    assert (sharp > LIMITS.sharpness).mean() > 0.95
    strong, sharp = faces.right(56, blur=8 / 160)
    assert strong < 0.75 * good
    assert (sharp < LIMITS.sharpness).mean() > 0.9
