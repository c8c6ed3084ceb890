"""Frozen and black images and low rates are noticed; a night camera and a still scene are not."""

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_runtime.sources import open_source
from emotion_runtime.sources.watch import ImageWatch, RateWatch

Image = NDArray[np.uint8]
SECONDS = 2.0
FPS = 10


def faults(images: Iterable[Image], seconds: float = SECONDS) -> list[str | None]:
    watch = ImageWatch(seconds)
    return [watch.look(image, index / FPS) for index, image in enumerate(images)]


def scene(level: float = 90, contrast: float = 60, size: tuple[int, int] = (90, 160)) -> NDArray[np.float64]:
    y, x = np.mgrid[: size[0], : size[1]]
    return (level + contrast * np.sin(x / 9) * np.cos(y / 7))[:, :, None].repeat(3, axis=2)


def noisy(base: NDArray[np.float64], sigma: float, count: int = 100) -> Iterator[Image]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield np.clip(np.rint(base + rng.normal(0, sigma, base.shape)), 0, 255).astype(np.uint8)


def test_copies_of_one_image_are_frozen_after_the_time() -> None:
    image = next(noisy(scene(), 2))
    found = faults([image.copy() for _ in range(40)])
    assert found == [None] * 20 + ["frozen"] * 20


def test_first_new_image_ends_it() -> None:
    first, second = noisy(scene(), 1, 2)
    found = faults([first] * 30 + [second] * 5 + [first, first])
    assert found[29] == "frozen"
    assert found[30:] == [None] * 7


def test_frozen_image_that_an_encoder_changes_a_little_at_key_frames_is_frozen() -> None:
    one, other = noisy(scene(), 0.5, 2)
    found = faults(([one] + [other] * 9) * 5)
    assert found[25:] == ["frozen"] * 25


@pytest.mark.parametrize("images", [2, 10, 30])
def test_short_film_that_repeats_is_not_frozen(images: int) -> None:
    one = scene(size=(40, 160)).clip(0, 255).astype(np.uint8)
    film = [np.roll(one, 5 * index, axis=1) for index in range(images)]
    assert set(faults(film * (300 // images))) == {None}


@pytest.mark.parametrize("sigma", [0.15, 0.5, 1, 3])
@pytest.mark.parametrize("level", [0.6, 4, 12, 90])
def test_still_scene_with_the_noise_of_a_sensor_is_not_frozen(level: float, sigma: float) -> None:
    assert "frozen" not in faults(noisy(scene(level, contrast=level), sigma))


def test_night_with_a_lamp_is_not_black() -> None:
    night = scene(3, 2)
    night[20:40, 30:60] += 15
    assert set(faults(noisy(night, 1.5))) == {None}


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_covered_lens_is_black(sigma: float) -> None:
    found = faults(noisy(scene(1, 0), sigma))
    assert found[:20] == [None] * 20
    assert found[20:] == ["black"] * 80


def test_time_without_a_connection_does_not_count() -> None:
    watch = ImageWatch(SECONDS)
    image = np.full((90, 160, 3), 90, np.uint8)
    watch.look(image, 0.0)
    watch.restart()
    assert [watch.look(image, t) for t in (100.0, 101.9, 102.1)] == [None, None, "frozen"]


def test_nothing_is_watched_if_the_time_is_zero() -> None:
    assert set(faults([np.zeros((8, 8, 3), np.uint8)] * 50, 0.0)) == {None}


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 5000), (5000, 3), (1080, 1920)])
def test_images_of_any_size_are_watched(size: tuple[int, int]) -> None:
    assert faults([np.full((*size, 3), 50, np.uint8)] * 25)[-1] == "frozen"
    assert faults([np.zeros((*size, 3), np.uint8)] * 25)[-1] == "black"


def test_size_that_changes_is_a_new_image() -> None:
    images = [np.full((size, 20, 3), 50, np.uint8) for size in (10, 11)]
    assert set(faults(images * 20)) == {None}


def coded(images: Iterable[Image], codec: str, options: dict[str, str]) -> Iterator[Image]:
    """Send images through an encoder with a key frame every two seconds, and decode them."""
    buffer = BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height = 160, 90
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 2 * FPS
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="bgr24")


CODECS = [
    ("mjpeg", {}),
    ("libx264", {"crf": "23", "preset": "ultrafast", "tune": "zerolatency"}),
    ("libx264", {"crf": "30", "preset": "ultrafast", "tune": "zerolatency"}),
    ("libx264", {"crf": "38", "preset": "ultrafast", "tune": "zerolatency"}),
]


@pytest.mark.parametrize(("codec", "options"), CODECS)
@pytest.mark.parametrize("sigma", [0.3, 1, 3])
def test_night_camera_through_an_encoder_is_not_frozen(
    codec: str, options: dict[str, str], sigma: float
) -> None:
    night = noisy(scene(8, 5), sigma, 150)
    assert set(faults(coded(night, codec, options), 3.0)) == {None}


@pytest.mark.parametrize(("codec", "options"), CODECS)
def test_frozen_image_through_an_encoder_is_frozen(codec: str, options: dict[str, str]) -> None:
    (image,) = noisy(scene(), 2, 1)
    found = faults(coded([image] * 250, codec, options), 3.0)
    assert set(found[150:]) == {"frozen"}


@pytest.mark.slow
def test_sample_clips_are_neither_frozen_nor_black(shared_data: Path) -> None:
    for path in sorted((shared_data / "videos").glob("*.mp4")):
        watch = ImageWatch(SECONDS)
        with open_source(path) as source:
            found = [watch.look(frame.image, frame.t) for frame in source]
        assert set(found) == {None}, path.name


# --- the rate ---


def reasons(rate: Callable[[float], float], seconds: float) -> list[tuple[float, str]]:
    """Return the times at which the reason changes."""
    watch, t, changes = RateWatch(), 0.0, [(0.0, "")]
    while t < seconds:
        reason = watch.count(t) or ""
        if reason != changes[-1][1]:
            changes.append((t, reason))
        t += 1 / rate(t)
    return changes[1:]


def test_rate_far_below_the_usual_one_is_noticed_until_it_is_back() -> None:
    (start, reason), (end, nothing) = reasons(lambda t: 2 if 60 < t < 90 else 25, 120)
    assert 60 < start < 72
    assert 90 < end < 102
    assert (reason, nothing) == ("2 images per second, usually 25; check its network and its exposure", "")


@pytest.mark.parametrize(
    "rate", [lambda _: 0.2, lambda t: 25 if t < 60 else 8, lambda t: 30 if int(t) % 2 else 12]
)
def test_low_and_uneven_rates_are_no_fault(rate: Callable[[float], float]) -> None:
    assert reasons(rate, 300) == []


def test_low_rate_that_stays_becomes_the_usual_one() -> None:
    (_, reason), (end, nothing) = reasons(lambda t: 25 if t < 60 else 4, 3600)
    assert reason
    assert not nothing
    assert end < 1200
