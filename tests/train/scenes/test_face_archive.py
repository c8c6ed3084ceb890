"""prepare-faces: from the published tables or a folder for each class to the file that training reads."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_runtime.errors import EmotionError
from emotion_train.cli import main
from emotion_train.language.labels import EKMAN
from emotion_train.scenes.face_archive import read_folder
from emotion_train.scenes.faces import load_faces

BALLOTS = ("1,0,0,2,7,0,0,0,0,0", "0,9,0,0,0,0,0,1,0,0", "6,0,0,4,0,0,0,0,0,0")
HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """Nine faces of one grey level each; each split has one of the classes angry, happy and sad."""
    faces, votes = ["emotion,pixels,Usage"], [HEADER]
    for row in range(9):
        usage = ("Training", "PublicTest", "PrivateTest")[row // 3]
        faces.append(f"{(0, 3, 4)[row % 3]},{' '.join([str(10 * row)] * 2304)},{usage}")
        votes.append(f"{usage},fer{row:07}.png,{BALLOTS[row % 3]}")
    paths = tmp_path / "fer2013.csv", tmp_path / "fer2013new.csv"
    for path, lines in zip(paths, (faces, votes), strict=True):
        path.write_text("\n".join(lines) + "\n")
    return paths


def test_the_published_tables_become_the_training_file(tables: tuple[Path, Path], tmp_path: Path):
    faces, votes = map(str, tables)
    assert main(["prepare-faces", "--fer2013", faces, "--votes", votes, "--out", str(tmp_path / "out")]) == 0
    for index, split in enumerate(("train", "val", "test")):
        found = load_faces(tmp_path / "out" / "data" / "fer2013_plus.npz", split)  # type: ignore[arg-type]
        assert found.images[:, 0, 0].tolist() == [30 * index, 30 * index + 10, 30 * index + 20]
        assert [EKMAN[label] for label in found.labels] == ["anger", "happiness", "sadness"]
        assert [EKMAN[label] for label in found.majority] == ["anger", "happiness", "neutral"]
        assert found.votes[1, EKMAN.index("happiness")] == 1  # contempt is not counted
        assert found.clear.tolist() == [True, True, True]


def test_tables_of_different_length_are_refused(
    tables: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tables[1].write_text("\n".join(tables[1].read_text().splitlines()[:-1]))
    argv = ["prepare-faces", "--fer2013", str(tables[0]), "--votes", str(tables[1]), "--out", str(tmp_path)]
    assert main(argv) == 2
    assert "has 9 rows and" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("splits", [(), ("train", "val", "test")])
def test_a_folder_for_each_class(splits: tuple[str, ...], tmp_path: Path):
    for place in splits or (".",):
        for grey, name in enumerate(EKMAN):
            (tmp_path / "in" / place / name).mkdir(parents=True)
            for copy in range(2 if splits else 12):
                image = np.full((60, 60, 3), 30 * grey, np.uint8)
                image[30:] += copy  # copies of one image would be in one split
                cv2.imwrite(str(tmp_path / "in" / place / name / f"{name}{copy}.png"), image)
    assert main(["prepare-faces", "--folder", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    total = 0
    for split in ("train", "val", "test"):
        faces = load_faces(tmp_path / "out" / "data" / "fer2013_plus.npz", split)  # type: ignore[arg-type]
        assert faces.images[:, 0, 0].tolist() == [30 * label for label in faces.labels]
        assert faces.votes.tolist() == np.eye(7)[faces.labels].tolist()
        total += len(faces.labels)
    assert total == 7 * (6 if splits else 12)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected either --folder, or --fer2013 and --votes"),
        (["--fer2013", "a.csv"], "expected either --folder"),
        (["--fer2013", "a.csv", "--votes", "b.csv"], "a.csv cannot be read"),
        (["--folder", "nowhere"], "nowhere: no such folder"),
        (["--folder", str(Path(__file__).parent)], "has no images: expected folders anger"),
    ],
)
def test_mistakes_are_one_line(
    argv: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["prepare-faces", *argv, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_copies_of_an_image_are_in_one_split(tmp_path: Path):
    rng = np.random.default_rng(0)
    (tmp_path / "anger").mkdir()
    for number in range(20):
        image = rng.integers(0, 256, (48, 48), np.uint8)
        for copy in range(3):
            cv2.imwrite(str(tmp_path / "anger" / f"{copy}-{number}.png"), image)
    splits: dict[bytes, set[str]] = {}
    for face in read_folder(tmp_path):
        assert face.image is not None
        splits.setdefault(face.image.tobytes(), set()).add(face.split)
    assert len(splits) == 20
    assert all(len(found) == 1 for found in splits.values())
    assert {"train"} < set.union(*splits.values())


def test_a_face_keeps_its_shape(tmp_path: Path):
    (tmp_path / "anger").mkdir()
    wide = np.full((48, 96), 200, np.uint8)
    cv2.circle(wide, (48, 24), 20, 0, -1)
    cv2.imwrite(str(tmp_path / "anger" / "wide.png"), wide)
    (face,) = read_folder(tmp_path)
    assert face.image is not None
    rows, columns = np.nonzero(face.image < 100)
    assert np.ptp(rows) == np.ptp(columns) == pytest.approx(20, abs=1)
    assert (face.image[[0, -1]] > 190).all()  # no black bars


@pytest.mark.parametrize("size", [(1, 1), (15, 200)])
def test_an_image_that_is_too_small_is_refused(tmp_path: Path, size: tuple[int, int]):
    (tmp_path / "anger").mkdir()
    cv2.imwrite(str(tmp_path / "anger" / "tiny.png"), np.zeros(size, np.uint8))
    with pytest.raises(EmotionError, match=rf"tiny.png has {size[1]} x {size[0]} pixels: expected"):
        read_folder(tmp_path)


def test_an_empty_file_and_an_unknown_folder_are_named(tmp_path: Path):
    (tmp_path / "anger").mkdir()
    (tmp_path / "anger" / "empty.png").touch()
    with pytest.raises(EmotionError, match=r"empty\.png is not an image that can be read: remove it"):
        read_folder(tmp_path)
    (tmp_path / "anger").rename(tmp_path / "Wut")
    with pytest.raises(EmotionError, match=r"folder .*/Wut: class 'wut' is unknown: expected one of anger"):
        read_folder(tmp_path)
