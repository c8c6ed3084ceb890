import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emotion_runtime.errors import EmotionError
from emotion_train.language.labels import EKMAN
from emotion_train.scenes.faces import Faces, FaceSampler, Split, class_weights, load_faces

FER2013 = {  # the archive's own names
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprise": "surprise",
    "neutral": "neutral",
}


def used_rows(raw: Any, split: Split) -> list[int]:
    """Count by hand, row by row, which rows of the archive are used."""
    offsets, names = raw[f"{split}_offsets"].tolist(), [str(name) for name in raw["vote_names"]]
    rows = []
    for row, counts in enumerate(raw[f"{split}_votes"].tolist()):
        of = dict(zip(names, counts, strict=True))
        best = max(count for name, count in of.items() if name not in ("unknown", "NF"))
        no_face = max(of["unknown"], of["NF"]) > best or not sum(of[name] for name in EKMAN)
        if offsets[row + 1] > offsets[row] and not (split == "train" and no_face):
            rows.append(row)
    return rows


# Faces with pixels; for training, without those that most people call unknown or no face.
@pytest.mark.parametrize(
    ("split", "count", "disgust", "clear"),
    [("train", 26619, 342, 20426), ("val", 3505, 54, 2796), ("test", 1747, 29, 1361)],
)
def test_the_archive_has_the_documented_content(
    archive: Path, split: Split, count: int, disgust: int, clear: int
):
    faces = load_faces(archive, split)
    assert faces.images.shape == (count, 48, 48)
    assert faces.images.dtype == np.uint8
    assert faces.labels.dtype == np.int64
    assert (faces.labels == EKMAN.index("disgust")).sum() == disgust
    assert faces.clear.sum() == clear
    with np.load(archive) as raw:
        rows = used_rows(raw, split)
        named = [FER2013[str(raw["classes"][label])] for label in raw[f"{split}_labels"][rows]]
    assert [EKMAN[label] for label in faces.labels] == named


def test_votes_are_assigned_by_the_name_of_their_column(archive: Path, real_faces: Faces):
    """For every face, each emotion has its own count of the archive over the sum of the seven."""
    with np.load(archive) as raw:
        rows = used_rows(raw, "test")
        names = [str(name) for name in raw["vote_names"]]
        for face, row in enumerate(rows):
            counts = dict(zip(names, raw["test_votes"][row].tolist(), strict=True))
            seven = [counts[name] for name in EKMAN]
            expected = np.array(seven) / sum(seven) if sum(seven) else np.full(7, 1 / 7)
            np.testing.assert_allclose(real_faces.votes[face], expected, atol=1e-6)
            assert real_faces.clear[face] == (max(seven) > sum(counts.values()) / 2)
    assert real_faces.votes.dtype == np.float32


def test_votes_and_labels_agree_as_often_as_published(archive: Path):
    """A column taken for another would agree far less often; 63.8 % was measured without this code."""
    faces = load_faces(archive, "test")
    assert (faces.majority == faces.labels).mean() == pytest.approx(0.638, abs=0.02)


def test_images_agree_with_another_decoder(archive: Path, real_faces: Faces):
    with np.load(archive) as raw:
        encoded, offsets = raw["test_bytes"], raw["test_offsets"]
        rows = used_rows(raw, "test")
    for face in (0, 7, 1746):
        data = encoded[offsets[rows[face]] : offsets[rows[face] + 1]].tobytes()
        theirs = np.asarray(Image.open(io.BytesIO(data)).convert("L"), np.int16)
        assert np.abs(real_faces.images[face] - theirs).max() <= 1


def test_take_keeps_everything_of_a_face_together(real_faces: Faces):
    taken = real_faces.take(np.array([5, 3]))
    for name in ("images", "labels", "votes", "clear"):
        assert np.array_equal(getattr(taken, name), getattr(real_faces, name)[[5, 3]])


def small_archive(path: Path, **changes: Any) -> Path:
    """Write an archive of three test faces, the last without pixels."""
    from cv2 import imencode  # noqa: PLC0415

    pixels = [imencode(".png", np.full((48, 48), grey, np.uint8))[1].ravel() for grey in (10, 200)]
    arrays = {
        "test_bytes": np.concatenate(pixels),
        "test_offsets": np.array([0, len(pixels[0]), sum(map(len, pixels)), sum(map(len, pixels))]),
        "test_labels": np.array([1, 0, 1]),
        "classes": np.array(["happy", "fear"]),
        "test_votes": np.array([[2, 1, 5, 2], [0, 0, 0, 10], [9, 1, 0, 0]], np.uint8),
        "vote_names": np.array(["fear", "sadness", "contempt", "NF"]),
    }
    np.savez(path, **{name: value for name, value in (arrays | changes).items() if value is not None})
    return path


def test_contempt_and_no_face_are_not_counted(tmp_path: Path):
    faces = load_faces(small_archive(tmp_path / "a.npz"), "test")
    fear, sadness, happiness = (EKMAN.index(name) for name in ("fear", "sadness", "happiness"))
    assert faces.labels.tolist() == [fear, happiness]
    assert faces.votes[0, [fear, sadness]].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert faces.votes[1].tolist() == pytest.approx([1 / 7] * 7)  # nobody sees an emotion
    assert faces.clear.tolist() == [False, False]
    assert faces.images[:, 0, 0].tolist() == [10, 200]


def test_without_votes_all_votes_are_for_the_label(tmp_path: Path):
    faces = load_faces(small_archive(tmp_path / "a.npz", test_votes=None, vote_names=None), "test")
    assert faces.votes.tolist() == np.eye(7)[faces.labels].tolist()
    assert faces.clear.all()


def test_votes_and_label_are_mixed_by_a_weight(tmp_path: Path):
    faces = load_faces(small_archive(tmp_path / "a.npz"), "test")
    mixed = faces.weighted(0.25)
    np.testing.assert_allclose(mixed.votes, 0.25 * faces.votes + 0.75 * np.eye(7)[faces.labels], atol=1e-6)
    np.testing.assert_allclose(faces.weighted(1.0).votes, faces.votes)
    assert np.array_equal(mixed.labels, faces.labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vote_names": np.array(["fear", "joyless", "contempt", "NF"])}, "'joyless' is unknown"),
        ({"test_votes": np.zeros((2, 4), np.uint8)}, r"test_votes has shape \(2, 4\), not \(3, 4\)"),
        ({"vote_names": None}, "vote_names"),
        ({"test_offsets": np.zeros(4, np.int64)}, "no face of the split test has pixels"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(EmotionError, match=message):
        load_faces(small_archive(tmp_path / "a.npz", **changes), "test")


def test_a_missing_or_invalid_archive(tmp_path: Path):
    with pytest.raises(
        EmotionError,
        match=r"face archive not found at .*faces\.npz: --data must be the folder that",
    ):
        load_faces(tmp_path / "faces.npz", "test")
    (tmp_path / "faces.npz").write_bytes(b"not a zip")
    with pytest.raises(EmotionError, match="is not a face archive"):
        load_faces(tmp_path / "faces.npz", "test")
    np.savez(tmp_path / "faces.npz", classes=np.array(["angry"]))
    with pytest.raises(EmotionError, match="expected test_bytes, test_offsets, test_labels and classes"):
        load_faces(tmp_path / "faces.npz", "test")


def test_faces_are_drawn_by_the_root_of_the_votes_for_their_emotion():
    """Compare with two draws: an emotion by the root of its votes, then a face by its votes for it."""
    votes = np.array([[1, 0, 0]] * 40 + [[0.5, 0.5, 0]] * 20 + [[0, 0.2, 0.8]] * 5)
    shares = votes.sum(axis=0)
    by_emotion = np.sqrt(shares) / np.sqrt(shares).sum()
    expected = (votes / shares) @ by_emotion
    drawn = np.bincount(FaceSampler(votes).draw(np.random.default_rng(0), 200_000), minlength=65) / 200_000
    np.testing.assert_allclose(drawn, expected, atol=4 * (0.03 / 200_000) ** 0.5)


def test_class_weights_are_proportional_to_a_power_of_the_counts():
    np.testing.assert_allclose(class_weights(np.array([400, 100, 0, 900])), [2 / 6, 1 / 6, 0, 3 / 6])
    np.testing.assert_allclose(class_weights(np.array([30, 10]), power=1), [0.75, 0.25])
    np.testing.assert_allclose(class_weights(np.array([30, 10]), power=0), [0.5, 0.5])
