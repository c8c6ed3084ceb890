"""Photos: upright, scaled to 8 bits, and refused where a file does not say what its values mean."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from emotion_runtime.media import ImageError, is_image, read_image
from emotion_runtime.media.images import image_size

RGB = np.random.default_rng(3).integers(0, 256, (24, 40, 3), np.uint8)
GREY = RGB[..., 0]
TURNED = {
    1: RGB,
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: RGB.swapaxes(0, 1),
    6: np.rot90(RGB, -1),
    7: np.rot90(RGB, 2).swapaxes(0, 1),
    8: np.rot90(RGB),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "jpg"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0}
    Image.fromarray(RGB).save(path, exif=exif, **(options if suffix in ("webp", "jpg") else {}))
    image = read_image(path)[..., ::-1]
    np.testing.assert_allclose(image, TURNED[orientation], atol=8 if suffix == "jpg" else 0)
    assert image_size(path) == (image.shape[1], image.shape[0])


@pytest.mark.parametrize("name", ["g16.png", "g16.tiff", "g16.pgm"])
def test_16_bit_grey_is_scaled(tmp_path: Path, name: str) -> None:
    cv2.imwrite(str(tmp_path / name), GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(tmp_path / name), np.stack([GREY] * 3, axis=2))


def test_dark_and_black_16_bit_grey(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((8, 8), np.uint16))
    assert not read_image(tmp_path / "black.png").any()
    cv2.imwrite(str(tmp_path / "dark.png"), np.full((8, 8), 80 * 257, np.uint16))
    assert (read_image(tmp_path / "dark.png") == 80).all()


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("bits12.png", GREY.astype(np.uint16) * 16, "16-bit values of unknown range"),
        ("bits10.tiff", GREY.astype(np.uint16) * 4, "16-bit values of unknown range"),
        ("depth.png", 400 + 30 * GREY.astype(np.uint16), "16-bit values of unknown range"),  # millimetres
        ("unit.tiff", GREY.astype(np.float32) / 255, "floating-point values of unknown range"),
        ("metres.tiff", GREY.astype(np.float32), "floating-point values of unknown range"),
        ("long.tiff", GREY.astype(np.int32) * 1000, "32-bit integers of unknown range"),
    ],
)
def test_values_of_unknown_range_are_refused(
    tmp_path: Path, name: str, values: np.ndarray, reason: str
) -> None:
    Image.fromarray(values).save(tmp_path / name)
    for reader in (read_image, image_size):
        with pytest.raises(ImageError, match=rf"{name}: {reason}") as caught:
            reader(tmp_path / name)
        assert caught.value.reason.startswith(reason)


def test_16_bit_colours_keep_their_upper_8_bits(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "rgb16.png"), RGB[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(tmp_path / "rgb16.png")[..., ::-1], RGB)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_parts_become_white(tmp_path: Path, mode: str) -> None:
    alpha = np.zeros((24, 40), np.uint8)
    alpha[:, 20:] = 255
    grey = np.full((24, 40), 60, np.uint8)
    image = Image.fromarray(np.stack([grey, grey, grey, alpha], axis=2)).convert(mode)
    suffix = "tiff" if mode == "PA" else "png"
    image.save(tmp_path / f"cut.{suffix}")
    pixels = read_image(tmp_path / f"cut.{suffix}")
    assert (pixels[:, :20] == 255).all()
    assert (pixels[:, 20:] == 60).all()


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "palette.png", transparency=0)
    pixels = read_image(tmp_path / "palette.png")
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[4, 4].tolist() == [60, 50, 40]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L", "1", "P"])
def test_other_modes(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode in ("CMYK", "YCbCr") else "png"
    plain = Image.new("RGB", (16, 16), (255, 255, 255))
    plain.convert(mode).save(tmp_path / f"photo.{suffix}")
    assert (read_image(tmp_path / f"photo.{suffix}") >= 250).all()


def test_content_decides_what_a_photo_is(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "photo.dat", "PNG")
    assert is_image(tmp_path / "photo.dat")
    (tmp_path / "text.txt").write_text("hello")
    assert not is_image(tmp_path / "text.txt")
    assert not is_image(tmp_path / "gone.jpg")
    (tmp_path / "broken.jpg").write_text("hello")
    assert is_image(tmp_path / "broken.jpg")  # so that reading it says what is wrong
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(tmp_path / "broken.jpg")
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match=r"cannot be decoded \(not an image\); give a photo"):
        read_image(tmp_path / "text.txt")
    with pytest.raises(ImageError, match="is a folder; give the photos in it"):
        read_image(tmp_path)
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(ImageError, match="HEIC is not supported; convert it to JPEG"):
        read_image(tmp_path / "phone.heic")
    images = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in (0, 200)]
    images[0].save(tmp_path / "pages.tiff", save_all=True, append_images=images[1:])
    assert is_image(tmp_path / "pages.tiff")  # the first of its pages
