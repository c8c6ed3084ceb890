"""Windows of several people in one frame."""

import numpy as np

from emotion_runtime.preprocess import PreprocessSpec, center_window, patch_weights, subject_window
from emotion_runtime.subject import plan_crops

HEADS = PreprocessSpec(size=112, patch=16, short_side=128, window="subject", subject_scale=1.3)
WIDE = PreprocessSpec(window="subject")

LEFT, RIGHT = (100.0, 100.0, 160.0, 170.0), (900.0, 120.0, 960.0, 190.0)


def test_distant_people_have_separate_windows():
    subjects = plan_crops([LEFT, RIGHT], 720, 1280, HEADS)
    assert subjects.frame_index.tolist() == [0, 1]
    for box, window, weights in zip([LEFT, RIGHT], subjects.windows, subjects.patch_weights, strict=True):
        assert window == subject_window(box, 720, 1280, HEADS)
        np.testing.assert_array_equal(weights, patch_weights(box, window, HEADS))


def test_close_people_share_a_window_and_keep_their_own_weights():
    near = (LEFT[0] + 120, LEFT[1], LEFT[2] + 120, LEFT[3])
    subjects = plan_crops([LEFT, near], 720, 1280, WIDE)
    assert subjects.frame_index.tolist() == [0, 0]
    assert len(subjects.windows) == 1
    assert not np.array_equal(*subjects.patch_weights)
    assert (subjects.patch_weights.sum(axis=1) > 0).all()


def test_window_is_not_shared_by_heads_of_different_sizes():
    small = (
        120.0,
        110.0,
        140.0,
        135.0,
    )  # inside the window of the large head, where it would have only a few pixels
    assert plan_crops([LEFT, small], 720, 1280, HEADS).frame_index.tolist() == [0, 1]


def test_center_window_is_shared_by_all():
    spec = PreprocessSpec()
    subjects = plan_crops([LEFT, RIGHT], 720, 1280, spec)
    assert subjects.windows == [center_window(720, 1280, spec)]
    assert subjects.frame_index.tolist() == [0, 0]


def test_no_people():
    subjects = plan_crops([], 720, 1280, HEADS)
    assert subjects.windows == []
    assert subjects.frame_index.shape == (0,)
    assert subjects.patch_weights.shape == (0, 49)
