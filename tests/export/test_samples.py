from pathlib import Path

import numpy as np
import pytest

from emotion_export.samples import SIZES, SampleCrop, batches, random_crops, real_crops
from emotion_runtime.detectors import load_detector
from emotion_runtime.encoder import FrameEncoder
from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec
from emotion_runtime.sources.demo import read_demo
from emotion_runtime.subject import plan_crops
from emotion_train.model import PRESETS

SPECS = [PRESETS["nano"].preprocess, PRESETS["vit-b-32"].preprocess]
IDS = ["nano", "vit-b-32"]


class Nothing:
    """A backend that is not run."""

    description = "nothing"

    def run(self, feeds: object) -> dict[str, np.ndarray]:
        raise AssertionError(feeds)


def test_sizes_tell_constants_from_dimensions():
    assert {persons for _, persons in SIZES} == {1, 3, 8}
    assert {pictures for pictures, _ in SIZES} == {1, 2}
    assert len(SIZES) == 6


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS, ids=IDS)
def test_real_crops_are_those_that_the_runtime_encodes(spec: PreprocessSpec):
    """The first frame of the demo, through the runtime's own encoder."""
    frame = next(iter(read_demo())).image
    boxes = [tuple(map(float, box)) for box in load_detector("face")(frame).boxes]
    batch = FrameEncoder(Nothing(), spec).gather([(frame, plan_crops(boxes, *frame.shape[:2], spec))])
    views = real_crops([], spec)
    first = views[: len(batch.images)]
    np.testing.assert_array_equal([view.image for view in first], batch.images)
    np.testing.assert_array_equal(np.concatenate([view.subjects for view in first]), batch.patch_weights)
    assert len(boxes) == 2
    assert sum(len(view.subjects) for view in views) == 2 * 12  # both people, all along


@pytest.mark.slow
def test_videos_add_their_people(shared_data: Path):
    video = shared_data / "videos" / "intel_face-demographics-walking-and-pause.gif"
    demo = real_crops([], SPECS[0])
    both = real_crops([str(video)], SPECS[0])
    assert len(both) > len(demo)
    np.testing.assert_array_equal(both[0].image, demo[0].image)
    many = real_crops([str(video)] * 4, SPECS[0])
    assert len(many) < 4 * len(both)  # the time that a comparison takes has a bound


@pytest.mark.slow
def test_a_video_without_people_is_refused(tmp_path: Path):
    cv2 = pytest.importorskip("cv2")
    path = str(tmp_path / "grey.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 25, (320, 240))
    for _ in range(13):
        writer.write(np.full((240, 320, 3), 90, np.uint8))
    writer.release()
    with pytest.raises(EmotionError, match=r"grey.avi: no face was found") as error:
        real_crops([path], SPECS[0])
    assert "\n" not in str(error.value)
    with pytest.raises(EmotionError, match=r"absent\.mp4"):
        real_crops(["absent.mp4"], SPECS[0])


@pytest.mark.parametrize("spec", SPECS, ids=IDS)
def test_random_views_show_all_kinds_of_subjects(spec: PreprocessSpec):
    views = random_crops(spec)
    for view in views:
        assert view.image.shape == (spec.size, spec.size, 3)
        box, nobody, anything, everything = view.subjects
        assert (nobody == 0).all()
        assert (everything == 1).all()
        assert 0 < anything.min() < anything.max() < 1
        assert 0 <= box.min() <= box.max() <= 1
    boxes = np.stack([view.subjects[0] for view in views])
    assert ((boxes == 0).any(axis=1) & (boxes > 0).any(axis=1)).sum() > len(views) / 2
    steps = [np.abs(np.diff(view.image.astype(float), axis=1)).mean() for view in views]
    noise, drawn = steps[0::3], [step for number, step in enumerate(steps) if number % 3]
    assert min(noise) > 2 * max(drawn)  # some are noise, and some are smooth as pictures are


def test_batches_use_every_view_and_every_subject():
    """Pictures and weights that tell which they are."""
    views = [
        SampleCrop(np.full((4, 4, 3), number, np.uint8), np.array([[number], [number + 0.5]], np.float32))
        for number in range(20)
    ]
    made = batches(views)
    assert len(made) == len(SIZES)
    pictures, subjects = set(), set()
    for (frames, persons), group in zip(SIZES, made, strict=True):
        for feed in group:
            images, index, weights = feed["images"], feed["frame_index"], feed["patch_weights"]
            assert images.shape == (frames, 4, 4, 3)
            assert index.shape == (persons,)
            assert index.dtype == np.int64
            assert weights.shape == (persons, 1)
            shown = images[index, 0, 0, 0]
            np.testing.assert_array_equal(shown, np.floor(weights[:, 0]))  # its own subject
            pictures |= set(images[:, 0, 0, 0].tolist())
            subjects |= set(weights[:, 0].tolist())
            if persons > 1:
                assert set(index.tolist()) == set(range(frames))
    assert pictures == set(range(20))
    assert len(subjects) > 20  # and not the first of each view only
