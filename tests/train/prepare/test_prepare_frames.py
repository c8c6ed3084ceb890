import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from made_media import flat_pictures, write_video
from numpy.typing import NDArray
from PIL import Image

from emotion_runtime.detectors import load_detector
from emotion_runtime.preprocess import PreprocessSpec, center_window
from emotion_runtime.sources.file import read_file
from emotion_runtime.types import Detections, Frame
from emotion_train.prepare.stored_frames import VideoClock, frames_on_grid, grid_indices, store


def film(times: list[float]) -> list[Frame]:
    """Frames that tell their number."""
    return [Frame(np.full((2, 2, 3), number, np.uint8), number, t, "film") for number, t in enumerate(times)]


def shown(times: list[float], wanted: list[int], fps: float) -> tuple[dict[int, int], float]:
    clock = VideoClock()
    got = {k: int(image[0, 0, 0]) for k, image in frames_on_grid(iter(film(times)), wanted, fps, clock)}
    return got, clock.end


@pytest.mark.parametrize("seed", range(5))
def test_each_time_has_the_frame_that_was_shown(seed: int):
    rng = np.random.default_rng(seed)
    times = [0.0, *np.cumsum(rng.choice([0.005, 0.04, 0.3, 1.1], 60)).tolist()]  # of no even rate
    wanted = sorted(rng.choice(400, 100, replace=False).tolist())
    end = times[-1] + times[-1] - times[-2]
    expected = {
        k: max(number for number, t in enumerate(times) if t <= k / 8 + 1e-6)
        for k in wanted
        if k / 8 < end - 1e-6
    }
    got, stated = shown(times, wanted, 8.0)
    assert got == expected
    assert stated == pytest.approx(end)


def test_a_frame_begins_at_its_time_and_not_before():
    assert shown([0.0, 0.125, 0.25 + 1e-9, 0.376], [0, 1, 2, 3], 8.0)[0] == {0: 0, 1: 1, 2: 2, 3: 2}


def test_a_video_of_one_frame_has_a_short_duration():
    assert shown([0.0], [0, 1], 8.0) == ({0: 0}, 0.04)
    assert shown([], [0, 1], 8.0) == ({}, 0.0)


@pytest.mark.parametrize(
    ("start", "end", "numbers"),
    [
        (0.0, 1.0, range(8)),
        (0.125, 0.25, range(1, 2)),
        (0.1, 0.3, range(1, 3)),
        (0.3, 0.3, range(3, 3)),
        (0.1 + 0.2, 2.3, range(3, 19)),
    ],
)
def test_grid_indices(start: float, end: float, numbers: range):
    assert grid_indices(start, end, 8.0) == numbers


def test_frames_of_a_real_file_on_the_grid(tmp_path: Path):
    path = write_video(tmp_path / "film.mkv", flat_pictures(100), fps=25)
    got = {
        k: int(image.mean())
        for k, image in frames_on_grid(read_file(str(path)), range(40), 8.0, VideoClock())
    }
    assert got == {k: 2 * int(25 * k / 8 + 1e-6) for k in range(32)}


# --- what is stored


def no_one(_: NDArray[np.uint8]) -> Detections:
    return Detections.empty()


@pytest.mark.parametrize("size", [(480, 270), (270, 480), (100, 60), (1366, 768), (256, 256), (77, 211)])
def test_the_short_side_is_kept_and_the_long_one_rounded_as_for_the_model(size: tuple[int, int]):
    width, height = size
    stored = store(np.zeros((height, width, 3), np.uint8), no_one, short_side=256, quality=90)
    with Image.open(io.BytesIO(stored.jpeg)) as picture:
        assert picture.size == (stored.width, stored.height)
    assert min(stored.width, stored.height) == 256
    # The model's own window of the full frame has the scale of the stored one.
    window = center_window(height, width, PreprocessSpec())
    assert (stored.width, stored.height) == (
        int(window.scale * width + 1e-6) if width > height else 256,
        256 if width > height else int(window.scale * height + 1e-6),
    )


def test_colours_and_shapes_are_those_of_the_video():
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[:, :40, 0] = 255  # BGR: blue on the left
    picture[:, 40:, 2] = 255  # red on the right
    stored = store(picture, no_one, short_side=30, quality=95)
    got = np.asarray(Image.open(io.BytesIO(stored.jpeg)), np.int64)
    assert got.shape == (30, 40, 3)
    np.testing.assert_allclose(got[:, :15].mean((0, 1)), [0, 0, 255], atol=6)  # RGB
    np.testing.assert_allclose(got[:, 25:].mean((0, 1)), [255, 0, 0], atol=6)


def test_boxes_are_found_in_the_full_image_and_scaled_to_the_stored_one():
    def two(image: NDArray[np.uint8]) -> Detections:
        assert image.shape == (540, 960, 3)
        boxes = np.array([[96, 54, 480, 540], [0.3, 0, 960, 270]], np.float32)
        return Detections(boxes, np.array([0.87654, 0.3], np.float32))

    stored = store(np.zeros((540, 960, 3), np.uint8), two, short_side=180, quality=90)
    assert (stored.width, stored.height) == (320, 180)
    assert stored.boxes == [(32.0, 18.0, 160.0, 180.0, 0.8765), (0.1, 0.0, 320.0, 90.0, 0.3)]


def test_heads_of_real_people_are_found_where_they_stand(shared_data: Path):
    path = str(shared_data / "videos" / "intel_head-pose-face-detection-female-and-male.gif")
    detector = load_detector("face", threads=1)
    moments = frames_on_grid(read_file(path), [8, 16], 8.0, VideoClock())
    frames = [store(image, detector, short_side=256, quality=90) for _, image in moments]
    assert [(frame.width, frame.height) for frame in frames] == [(455, 256)] * 2
    for frame in frames:
        strong = [box for box in frame.boxes if box[4] >= 0.5]
        assert len(strong) == 2
        assert all(20 < box[2] - box[0] < 150 and 20 < box[3] - box[1] < 180 for box in strong)
        first, second = sorted(strong)
        assert first[2] < second[0]  # side by side
        # Detection on the stored image itself, upright and in its own colours, finds them there too.
        again = detector(np.asarray(Image.open(io.BytesIO(frame.jpeg)))[:, :, ::-1].copy())
        found = sorted(
            box.tolist() for box, score in zip(again.boxes, again.scores, strict=True) if score >= 0.5
        )
        for box, seen in zip((first, second), found, strict=True):
            np.testing.assert_allclose(box[:4], seen, atol=12)


def test_times_rise(shared_data: Path):
    """The grid of a real file of 12.5 frames a second: each frame is the last that began."""
    path = str(shared_data / "videos" / "intel_classroom.gif")
    times = [frame.t for frame in read_file(path)][:60]
    assert all(before < after for before, after in pairwise(times))
    got = [k for k, _ in frames_on_grid(read_file(path), range(20), 8.0, VideoClock())]
    assert got == list(range(20))
