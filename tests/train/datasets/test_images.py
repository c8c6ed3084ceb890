"""Pixels of files and videos, and samples cut for the encoder."""

import struct
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import jpeg

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec, center_window, crop, subject_window
from emotion_runtime.sources.file import read_file
from emotion_train.datasets.base import Sample, SampleImage
from emotion_train.datasets.images import load_image, prepare_sample
from emotion_train.datasets.video import video_info
from made_videos import H264, clock, ffmpeg, greys, moving, tone, write_images

CENTER = PreprocessSpec(size=64, patch=16, short_side=72)
SUBJECT = PreprocessSpec(size=64, patch=16, short_side=72, window="subject", subject_scale=1.5)
RATE, FRAMES = 10, 25
WIDTH, HEIGHT = 120, 90


def sample(*images_of_sample: SampleImage) -> Sample:
    return Sample("key", "group", images_of_sample, {})


def noise(path: Path, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_video(path: Path, *, seconds: float = 2.5, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """Make a video of 10 fps with B-frames, a key frame every 8 frames; frame n has grey 10 (n mod 25)."""
    images = greys((10 * (n % FRAMES) for n in range(round(seconds * RATE))), size)
    return write_images(path, images, RATE, codec="libx264", g="8", bf="2", crf="1")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "grey.mp4")


def shown(video: Path, seconds: float) -> float:
    """Return the number of the frame shown at a time."""
    return round(float(load_image(SampleImage(video, (), seconds)).mean()) / 10)


# --- pixels


def test_an_image_file_is_read_as_rgb_uint8(tmp_path: Path):
    image = load_image(SampleImage(jpeg(tmp_path / "a.png", (30, 20), (200, 100, 50)), ()))
    assert image.shape == (20, 30, 3)
    assert image.dtype == np.uint8
    assert image[0, 0].tolist() == [200, 100, 50]
    Image.new("L", (5, 4), 77).save(tmp_path / "grey.png")
    assert load_image(SampleImage(tmp_path / "grey.png", ())).tolist() == np.full((4, 5, 3), 77).tolist()


def test_exif_rotation_is_applied(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert load_image(SampleImage(tmp_path / "turned.jpg", ())).shape == (30, 20, 3)


def test_a_missing_or_corrupt_image(tmp_path: Path):
    with pytest.raises(EmotionError, match=r"image .*gone\.jpg: no such file; check the path"):
        load_image(SampleImage(tmp_path / "gone.jpg", ()))
    path = noise(tmp_path / "corrupt.png")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(
        EmotionError, match=r"corrupt\.png: cannot be decoded \(.*\); get an intact copy"
    ) as error:
        load_image(SampleImage(path, ()))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("n", range(FRAMES))
def test_every_frame_of_a_video_is_found_by_its_time(video: Path, n: int):
    assert shown(video, n / RATE) == n
    assert shown(video, (n + 0.9) / RATE) == n  # and shown until the next begins


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".flv"])
def test_files_without_a_good_index_give_the_same_frames(tmp_path: Path, suffix: str):
    """A transport stream does not start at 0, and a seek in it lands too late."""
    path = write_video(tmp_path / f"grey{suffix}")
    assert [shown(path, n / RATE) for n in range(FRAMES)] == list(range(FRAMES))
    assert video_info(path).last == pytest.approx((FRAMES - 1) / RATE)


def test_seeking_in_a_long_file(tmp_path: Path):
    path = write_video(tmp_path / "long.ts", seconds=25, size=(32, 32))
    for moment in (0.3, 9.9, 14.2, 24.8):
        assert shown(path, moment) == round(moment * RATE) % FRAMES


@pytest.mark.parametrize("suffix", [".avi", ".h264"])
def test_times_that_are_missing_or_do_not_increase_are_those_of_the_runtime(tmp_path: Path, suffix: str):
    """An AVI file has decoding times only, which do not fit B-frames; a bare stream has none."""
    path = write_video(tmp_path / f"grey{suffix}")
    for frame in islice(read_file(str(path)), 3, None, 5):
        pixels = load_image(SampleImage(path, (), frame.t))
        np.testing.assert_array_equal(pixels[..., ::-1], frame.image)


def test_times_in_any_order_and_after_the_end(video: Path):
    assert [shown(video, moment) for moment in (2.0, 0.3, 1.1)] == [20, 3, 11]
    with pytest.raises(EmotionError, match=r"ends at 2\.50 s, but a frame at 2\.70 s is needed"):
        shown(video, 2.7)
    with pytest.raises(EmotionError, match=r"has no frame at -1\.00 s"):
        shown(video, -1.0)


def test_the_size_and_length_of_a_video(video: Path):
    facts = video_info(video)
    assert (facts.width, facts.height) == (WIDTH, HEIGHT)
    assert facts.last == pytest.approx((FRAMES - 1) / RATE)
    assert facts.step == pytest.approx(1 / RATE)


@pytest.mark.parametrize("name", ["intel_one-by-one-person-detection.mp4", "vtest.avi"])
def test_a_real_video_gives_the_frames_of_the_runtime(shared_data: Path, name: str):
    path = shared_data / "videos" / name
    for frame in islice(read_file(str(path)), 0, 70, 23):
        pixels = load_image(SampleImage(path, (), frame.t))
        np.testing.assert_array_equal(pixels[..., ::-1], frame.image)


def test_the_last_frame_of_a_real_video(shared_data: Path):
    path = shared_data / "videos" / "vtest.avi"
    assert video_info(path).last == pytest.approx(794 / 10)  # 795 frames at 10 a second
    load_image(SampleImage(path, (), video_info(path).last))


def test_a_rotated_recording_is_made_upright(video: Path, tmp_path: Path):
    """Write a rotation by 90 degrees into the track's matrix (ISO 14496-12, 8.3.2)."""
    data = bytearray(video.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 20] = struct.pack(">5i", 0, 1 << 16, 0, -(1 << 16), 0)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(data)
    assert load_image(SampleImage(turned, (), 1.0)).shape == (WIDTH, HEIGHT, 3)
    facts = video_info(turned)
    assert (facts.width, facts.height) == (HEIGHT, WIDTH)
    runtime = next(iter(read_file(str(turned)))).image
    np.testing.assert_array_equal(load_image(SampleImage(turned, (), 0.0))[..., ::-1], runtime)


def test_a_16_bit_grey_image_is_scaled(tmp_path: Path):
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(grey * 257).save(tmp_path / "grey16.png")
    assert load_image(SampleImage(tmp_path / "grey16.png", ()))[..., 0].tolist() == grey.tolist()


def test_the_geometry_of_a_video_is_that_of_the_runtime(video: Path, tmp_path: Path):
    ffmpeg("-display_hflip", "-i", video, "-c", "copy", tmp_path / "mirrored.mp4")
    ffmpeg("-i", video, "-vf", "scale=60:90,setsar=2/1", "-c:v", "libx264", tmp_path / "narrow.mp4")
    ffmpeg(
        *moving(3),
        "-vf",
        "scale=160:88,interlace",
        "-c:v",
        "libx264",
        "-x264opts",
        "tff=1",
        tmp_path / "field.mp4",
    )
    for name in ("mirrored.mp4", "narrow.mp4", "field.mp4"):
        path = tmp_path / name
        frames = list(read_file(str(path)))
        for frame in (frames[0], frames[13], frames[-1]):
            pixels = load_image(SampleImage(path, (), frame.t))
            np.testing.assert_array_equal(pixels[..., ::-1], frame.image)
        assert (video_info(path).height, video_info(path).width) == frames[0].image.shape[:2]
    assert video_info(tmp_path / "narrow.mp4").width == 120


def test_times_count_from_the_start_of_the_sound(tmp_path: Path):
    ffmpeg(*clock(4), *H264, tmp_path / "clock.mp4")
    late = tmp_path / "late.mkv"
    ffmpeg(*tone(7), "-itsoffset", 3, "-i", tmp_path / "clock.mp4", "-c:v", "copy", "-c:a", "aac", late)
    info = video_info(late)
    assert (info.first, info.last) == pytest.approx((3.0, 6.96), abs=0.03)
    for moment in (3.1, 5.0, 6.5):
        assert load_image(SampleImage(late, (), moment)).mean() / 20 == pytest.approx(moment - 3, abs=0.15)
    with pytest.raises(EmotionError, match=r"begins at 3\.0\d s, but a frame at 1\.00 s is needed"):
        load_image(SampleImage(late, (), 1.0))


def test_an_animation_is_a_video(tmp_path: Path):
    frames = [Image.new("RGB", (20, 10), (50 * n, 0, 0)) for n in range(5)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    assert video_info(tmp_path / "a.webp").last == pytest.approx(0.4)
    assert load_image(SampleImage(tmp_path / "a.webp", (), 0.25))[0, 0].tolist() == [100, 0, 0]


def test_invalid_videos(tmp_path: Path, video: Path):
    with pytest.raises(EmotionError, match=r"no video .*gone\.mp4"):
        load_image(SampleImage(tmp_path / "gone.mp4", (), 0.0))
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(EmotionError, match=r"text\.mp4: not a video"):
        load_image(SampleImage(tmp_path / "text.mp4", (), 0.0))
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:1500])
    with pytest.raises(EmotionError, match=r"cut\.mp4: (contains no video|not a video)"):
        video_info(tmp_path / "cut.mp4")


def test_a_truncated_video_ends_at_its_last_frame(shared_data: Path, tmp_path: Path):
    whole = shared_data / "videos" / "vtest.avi"
    path = tmp_path / "cut.avi"
    path.write_bytes(whole.read_bytes()[:1_500_000])
    last = video_info(path).last
    assert 0 < last < 79
    np.testing.assert_array_equal(
        load_image(SampleImage(path, (), last - 1)), load_image(SampleImage(whole, (), last - 1))
    )
    with pytest.raises(
        EmotionError, match=rf"cut\.avi ends at {last + 0.1:.2f} s, but a frame at 79\.00 s is needed"
    ):
        load_image(SampleImage(path, (), 79.0))


# --- samples


def test_a_center_window_is_the_papers_crop_with_patch_weights_of_everyone(tmp_path: Path):
    path = noise(tmp_path / "a.png")
    boxes = ((20.0, 10.0, 50.5, 70.2), (40.0, 30.0, 100.0, 80.0))
    images, weights = prepare_sample(sample(SampleImage(path, boxes), SampleImage(path, ())), CENTER)
    assert images.shape == (2, 64, 64, 3)
    assert images.dtype == np.uint8
    assert weights.shape == (2, 16)
    assert weights.dtype == np.float32
    pixels = np.asarray(Image.open(path))
    np.testing.assert_array_equal(images[0], crop(pixels, center_window(HEIGHT, WIDTH, CENTER), CENTER))
    np.testing.assert_array_equal(images[1], images[0])
    assert not weights[1].any()
    # 120 x 90 scaled by 0.8 is 96 x 72; the crop begins at (16, 4)
    mask = np.zeros((64, 64))
    for x1, y1, x2, y2 in boxes:
        mask[
            max(int(y1 * 0.8) - 4, 0) : int(np.ceil(y2 * 0.8)) - 4,
            max(int(x1 * 0.8) - 16, 0) : int(np.ceil(x2 * 0.8)) - 16,
        ] = 1
    np.testing.assert_allclose(weights[0], mask.reshape(4, 16, 4, 16).mean((1, 3)).ravel(), atol=1e-6)


def test_a_subject_window_is_around_the_largest_person(tmp_path: Path):
    path = noise(tmp_path / "a.png")
    small, large = (4.0, 4.0, 14.0, 14.0), (70.0, 20.0, 100.0, 55.0)
    images, weights = prepare_sample(
        sample(SampleImage(path, (small, large)), SampleImage(path, (small,))), SUBJECT
    )
    pixels = np.asarray(Image.open(path))
    for image, box in zip(images, (large, small), strict=True):
        np.testing.assert_array_equal(
            image, crop(pixels, subject_window(box, HEIGHT, WIDTH, SUBJECT), SUBJECT)
        )
    assert weights[0].any()
    assert weights[1].any()


def test_a_subject_window_without_subject_is_the_centre_crop(tmp_path: Path):
    path = noise(tmp_path / "a.png")
    images, weights = prepare_sample(sample(SampleImage(path, ())), SUBJECT)
    centre, _ = prepare_sample(sample(SampleImage(path, ())), CENTER)
    np.testing.assert_array_equal(images, centre)
    assert not weights.any()


def test_video_frames_and_files_keep_their_order(tmp_path: Path, video: Path):
    """Image files are read one by one and a video is opened once, but the order is that of the sample."""
    grey = jpeg(tmp_path / "grey.png", (WIDTH, HEIGHT), (200, 200, 200))
    images_of_sample = [
        SampleImage(video, (), 1.2),
        SampleImage(grey, ()),
        SampleImage(video, (), 0.4),
        SampleImage(video, (), 1.2),
    ]
    images, _ = prepare_sample(sample(*images_of_sample), CENTER)
    assert images.mean((1, 2, 3)) == pytest.approx([120, 200, 40, 120], abs=3)


def test_an_image_that_occurs_eight_times_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opened = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path, **kinds: (opened.append(path), real(path, **kinds))[1])
    path = noise(tmp_path / "a.png")
    images, weights = prepare_sample(sample(*[SampleImage(path, ((1.0, 2.0, 30.0, 40.0),))] * 8), CENTER)
    assert opened == [path]
    assert images.shape == (8, 64, 64, 3)
    assert (weights == weights[0]).all()
