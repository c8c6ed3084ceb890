import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotion_runtime.errors import EmotionError
from emotion_train.language.labels import EKMAN
from emotion_train.scenes.faces import Faces, Split, class_weights, load_faces

FER2013 = {  # the archive's own names
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprise": "surprise",
    "neutral": "neutral",
}


@pytest.mark.parametrize(
    ("split", "count", "disgust"), [("train", 26942, 352), ("val", 3520, 54), ("test", 1760, 29)]
)
def test_the_archive_has_the_documented_content(archive: Path, split: Split, count: int, disgust: int):
    faces = load_faces(archive, split)
    assert faces.images.shape == (count, 48, 48)
    assert faces.images.dtype == np.uint8
    assert faces.labels.dtype == np.int64
    assert (faces.labels == EKMAN.index("disgust")).sum() == disgust
    with np.load(archive) as raw:
        named = [FER2013[str(raw["classes"][label])] for label in raw[f"{split}_labels"]]
    assert [EKMAN[label] for label in faces.labels] == named


def test_images_agree_with_another_decoder(archive: Path, real_faces: Faces):
    with np.load(archive) as raw:
        encoded, offsets = raw["test_bytes"], raw["test_offsets"]
    for row in (0, 7, 1759):
        data = encoded[offsets[row] : offsets[row + 1]].tobytes()
        theirs = np.asarray(Image.open(io.BytesIO(data)).convert("L"), np.int16)
        assert np.abs(real_faces.images[row] - theirs).max() <= 1


def test_take_keeps_face_and_label_together(real_faces: Faces):
    taken = real_faces.take(np.array([5, 3]))
    assert np.array_equal(taken.images[0], real_faces.images[5])
    assert taken.labels.tolist() == [real_faces.labels[5], real_faces.labels[3]]


def test_a_missing_or_invalid_archive(tmp_path: Path):
    with pytest.raises(
        EmotionError,
        match=r"FER2013 archive not found at .*faces\.npz: --data must be the folder that",
    ):
        load_faces(tmp_path / "faces.npz", "test")
    (tmp_path / "faces.npz").write_bytes(b"not a zip")
    with pytest.raises(EmotionError, match="is not the FER2013 archive"):
        load_faces(tmp_path / "faces.npz", "test")
    np.savez(tmp_path / "faces.npz", classes=np.array(["angry"]))
    with pytest.raises(EmotionError, match="expected test_bytes, test_offsets, test_labels and classes"):
        load_faces(tmp_path / "faces.npz", "test")


def test_class_weights_are_proportional_to_a_power_of_the_counts():
    np.testing.assert_allclose(class_weights(np.array([400, 100, 0, 900])), [2 / 6, 1 / 6, 0, 3 / 6])
    np.testing.assert_allclose(class_weights(np.array([30, 10]), power=1), [0.75, 0.25])
    np.testing.assert_allclose(class_weights(np.array([30, 10]), power=0), [0.5, 0.5])
