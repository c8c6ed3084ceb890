"""Padded and split batches give the same outputs as one batch of any size."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import emotion_runtime
from emotion_runtime.backends.base import Backend, Feeds, Outputs
from emotion_runtime.backends.buckets import Bucketed, Limits, bucket, limits_for, split
from emotion_runtime.backends.onnx import OnnxBackend

NANO = Path(emotion_runtime.__file__).parent / "bundles" / "nano"


class Recorded:
    """A backend that records the batch sizes it receives."""

    description = "recorded"

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.sizes: list[dict[str, int]] = []

    def run(self, feeds: Feeds) -> Outputs:
        self.sizes.append({name: len(value) for name, value in feeds.items()})
        return self._backend.run(feeds)

    def close(self) -> None:
        self._backend.close()


def test_close_is_passed_on():
    class Held:
        description, closed = "held", False

        def run(self, feeds: Feeds) -> Outputs:
            return dict(feeds)

        def close(self) -> None:
            self.closed = True

    held = Held()
    Bucketed(held).close()
    assert held.closed


@pytest.fixture(scope="module")
def frame_encoder() -> OnnxBackend:
    return OnnxBackend(NANO / "frame_encoder.onnx")


def people(persons: int, images: int, seed: int = 0) -> dict[str, NDArray]:
    """Return a batch with persons in random images; of several images, the last one shows no person."""
    rng = np.random.default_rng([persons, images, seed])
    return {
        "images": rng.integers(0, 256, (images, 112, 112, 3), dtype=np.uint8),
        "frame_index": rng.integers(0, max(images - 1, 1), persons),
        "patch_weights": rng.random((persons, 49), np.float32),
    }


def one_of(feeds: dict[str, NDArray], person: int) -> dict[str, NDArray]:
    """Return the batch of a single person."""
    image = feeds["frame_index"][person]
    return {
        "images": feeds["images"][image : image + 1],
        "frame_index": np.zeros(1, np.int64),
        "patch_weights": feeds["patch_weights"][person : person + 1],
    }


@pytest.mark.parametrize(("persons", "images"), [(1, 1), (3, 2), (8, 8), (16, 4), (17, 1), (20, 9), (33, 33)])
def test_outputs_do_not_change_for_any_number_of_persons_and_images(
    frame_encoder: OnnxBackend, persons: int, images: int
):
    feeds = people(persons, images)
    recorded = Recorded(frame_encoder)
    found = Bucketed(recorded).run(feeds)["embeddings"]
    np.testing.assert_allclose(found, frame_encoder.run(feeds)["embeddings"], atol=2e-5)
    alone = [one_of(feeds, person) for person in range(persons)]
    by_one = np.concatenate([frame_encoder.run(one)["embeddings"] for one in alone])
    np.testing.assert_allclose(found, by_one, atol=2e-5)
    for size in recorded.sizes:
        assert size["images"] in (1, 2, 4)
        assert size["frame_index"] == size["patch_weights"]
        assert size["frame_index"] in (1, 2, 4, 8, 16)


@pytest.mark.parametrize("persons", [1, 5, 16, 40])
def test_clips_are_padded_and_split_in_the_same_way(persons: int):
    backend = OnnxBackend(NANO / "temporal_encoder.onnx")
    clips = np.random.default_rng(persons).standard_normal((persons, 8, 256)).astype(np.float32)
    recorded = Recorded(backend)
    found = Bucketed(recorded).run({"embeddings": clips})["features"]
    np.testing.assert_allclose(found, backend.run({"embeddings": clips})["features"], atol=2e-5)
    assert {size["embeddings"] for size in recorded.sizes} <= {1, 2, 4, 8, 16}
    assert len(recorded.sizes) == -(-persons // 16)


def test_padding_rows_cover_nothing():
    class Zeros:
        description = ""

        def run(self, feeds: Feeds) -> Outputs:
            assert feeds["images"].shape == (4, 112, 112, 3)
            assert not feeds["images"][3].any()
            assert feeds["frame_index"].dtype == np.int64
            assert feeds["frame_index"].tolist()[5:] == [0, 0, 0]
            assert not feeds["patch_weights"][5:].any()
            return {"embeddings": feeds["patch_weights"]}

    feeds = people(5, 3)
    feeds["frame_index"] = np.array([2, 0, 1, 2, 2])
    found = Bucketed(Zeros()).run(feeds)["embeddings"]
    np.testing.assert_array_equal(found, feeds["patch_weights"])


def test_sizes_are_powers_of_two_up_to_the_limit():
    assert [bucket(n, 16) for n in range(1, 17)] == [1, 2, 4, 4] + [8] * 4 + [16] * 8
    assert [bucket(n, 12) for n in (8, 9, 12)] == [8, 12, 12]


@pytest.mark.parametrize(("persons", "images"), [(1, 1), (3, 2), (5, 5), (16, 16), (20, 20)])
def test_with_a_crop_per_person_sixteen_people_are_one_run(
    frame_encoder: OnnxBackend, persons: int, images: int
):
    feeds = people(persons, images) | {"frame_index": np.arange(persons)[::-1] % images}
    recorded = Recorded(frame_encoder)
    found = Bucketed(recorded, limits_for("subject")).run(feeds)["embeddings"]
    np.testing.assert_allclose(found, frame_encoder.run(feeds)["embeddings"], atol=2e-5)
    assert len(recorded.sizes) == -(-persons // 16)
    for size in recorded.sizes:  # one size for each number of people
        assert size["images"] == size["frame_index"] in (1, 2, 4, 8, 16)


@pytest.mark.parametrize(
    "limits", [limits_for("subject"), limits_for("center"), limits_for("subject", 3), Limits(6, 4, True)]
)
def test_the_sizes_that_are_listed_are_those_that_are_run(limits: Limits):
    run: set[tuple[int, int]] = set()

    class Recorder:
        description = ""

        def run(self, feeds: Feeds) -> Outputs:
            run.add((len(feeds["images"]), len(feeds["frame_index"])))
            return {"embeddings": feeds["patch_weights"]}

        def close(self) -> None:
            """Do nothing."""

    backend = Bucketed(Recorder(), limits)
    for persons in range(1, 20):
        for images in range(1, persons + 1):
            feeds = people(persons, images)
            backend.run(
                {**feeds, "images": feeds["images"][:, :1, :1], "frame_index": np.arange(persons) % images}
            )
    assert sorted(run) == sorted(limits.sizes())
    assert len(limits.sizes()) == len(set(limits.sizes()))


def test_a_model_that_sees_the_whole_image_has_few_images():
    assert limits_for("center") == Limits(16, 4)
    assert limits_for("subject") == Limits(16, 16, crop_per_person=True)
    assert limits_for("subject").sizes() == [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16)]
    assert len(limits_for("center").sizes()) == 12
    assert limits_for("center", 2) == Limits(2, 2)


@pytest.mark.parametrize("seed", range(5))
def test_parts_have_each_person_once_and_are_within_both_limits(seed: int):
    rng = np.random.default_rng(seed)
    index = rng.integers(0, 9, 50)
    limits = Limits(persons=int(rng.integers(1, 17)), images=int(rng.integers(1, 5)))
    parts = split(index, limits)
    np.testing.assert_array_equal(np.concatenate([np.arange(50)[part] for part in parts]), np.arange(50))
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        group = index[part]
        assert len(group) <= limits.persons
        assert len(set(group)) <= limits.images
        if following is not None:  # no part is smaller than necessary
            full = len(group) == limits.persons
            assert full or len({*group, index[following][0]}) > limits.images
