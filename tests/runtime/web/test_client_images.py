"""Images that clients send are read as photos in files are."""

from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image

from emotion_runtime.config import RunConfig
from emotion_runtime.detector_parity import demo_frames
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.detectors.network import SizedNetwork
from emotion_runtime.errors import EmotionError
from emotion_runtime.media.images import read_image
from emotion_runtime.rounds import Rounds
from emotion_runtime.run_page import open_page
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.web.analyses import decode_image


def deep_grey() -> Image.Image:
    """Return an image of 16-bit grey from 0 to 65535."""
    return Image.fromarray(np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8))


def see_through() -> Image.Image:
    """Return an image that is transparent on its left, where its hidden colour is red."""
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (4, 0, 8, 8))
    return image


def turned() -> Image.Image:
    """Return an image that is to be shown turned by a quarter, as its EXIF data says."""
    image = Image.new("RGB", (8, 4), "red")
    image.paste((0, 0, 255), (0, 0, 4, 4))
    image.getexif()[0x0112] = 6
    return image


@pytest.mark.parametrize(
    "image",
    [
        deep_grey(),
        see_through(),
        see_through().convert("LA"),
        see_through().quantize(4),
        turned(),
        Image.new("L", (8, 8), 77),
        Image.new("1", (8, 8), 1),
    ],
    ids=["16-bit grey", "transparent", "transparent grey", "palette", "turned", "grey", "black and white"],
)
def test_images_of_clients_are_read_like_files(tmp_path: Path, image: Image.Image):
    path = tmp_path / "photo.png"
    image.save(path, exif=image.getexif())
    decoded = decode_image(path.read_bytes())
    assert np.array_equal(decoded, read_image(path))
    assert decoded.flags.c_contiguous


def test_16_bit_grey_is_scaled_and_values_of_unknown_range_are_refused():
    data = BytesIO()
    deep_grey().save(data, "PNG")
    assert abs(decode_image(data.getvalue()).mean() - 127.5) < 1
    dark = BytesIO()
    Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(dark, "PNG")  # 12 bits, as some sensors have
    with pytest.raises(
        EmotionError, match=r"image in the body: 16-bit values of unknown range .* scale them"
    ):
        decode_image(dark.getvalue())


def test_images_of_clients_open_no_detector_for_their_size(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    """Opening one would stall all cameras, with OpenVINO for a second, and with TensorRT for minutes."""
    opening = pytest.importorskip("emotion_runtime.web.opening", reason="needs the extra: .[web]")
    served = []

    def open_web(_options: Any, run: Any) -> tuple[Any, str]:
        served.append(run)
        return None, ""

    def open_at(size: tuple[int, int]) -> NoReturn:
        raise AssertionError(f"opened for {size}")

    monkeypatch.setattr(opening, "open_web", open_web)
    detector = CenterFace(threads=1)
    with EmotionRuntime(tiny_bundle, detector, "cpu") as runtime:
        detector.network = SizedNetwork(detector.graph, open_at, batches=True)
        config = RunConfig(source=["demo"], serve="127.0.0.1:0")
        open_page(config, (), runtime, Rounds([], runtime.timer), runtime.run_line())
        (run,) = served
        people = demo_frames((192, 320), 1)[0]
        assert run.look(people)
        assert len(run.look(people[:, :160])) < len(run.look(people))
