"""Privacy zones: how they are written, what is filled, and that the detector never sees it."""

import numpy as np
import pytest

from emotion_runtime.errors import EmotionError
from emotion_runtime.privacy.image_filter import ImageFilter, Privacy
from emotion_runtime.privacy.zones import Zones, check_zones, parse_zone
from emotion_runtime.types import Frame


def noise(height: int = 90, width: int = 160) -> np.ndarray:
    return np.random.default_rng(0).integers(100, 255, (height, width, 3), np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return which pixels (H, W) differ."""
    return (before != after).any(axis=2)


def test_box_covers_its_part_of_an_image_of_any_size() -> None:
    zones = Zones([parse_zone("0.25,0,0.5,1")])
    for height, width in ((90, 160), (91, 163), (7, 9)):
        image = noise(height, width)
        difference = changed(image, zones.filled(image, "a"))
        left, right = int(np.floor(0.25 * width)), int(np.ceil(0.5 * width))
        assert difference[:, left:right].all()
        assert not difference[:, : max(left - 3, 0)].any()
        assert not difference[:, right + 3 :].any()


def test_polygon_is_filled_and_the_rest_is_kept() -> None:
    image = noise()
    filled = Zones([parse_zone("0,0,1,0,0,1")]).filled(image, "a")
    difference = changed(image, filled)
    assert difference[:40, :70].all()  # the half above the diagonal
    assert not difference[60:, 100:].any()
    assert len(np.unique(filled[:40, :70].reshape(-1, 3), axis=0)) == 1


def test_the_frame_of_the_source_is_not_changed() -> None:
    frame = Frame(noise(), 0, 0.0, "door")
    kept = frame.image.copy()
    assert changed(kept, Zones([parse_zone("0,0,1,1")]).fill(frame).image).all()
    np.testing.assert_array_equal(frame.image, kept)


@pytest.mark.parametrize(
    ("zone", "source", "covered"),
    [
        ("0,0,1,1", "anything", True),
        ("door=0,0,1,1", "door", True),
        ("door=0,0,1,1", "door 2", False),
        ("door=0,0,1,1", "door/clip.mp4", True),
        ("a=b.mp4=0,0,1,1", "a=b.mp4", True),
        ("0=0,0,1,1", "0", True),
    ],
)
def test_zone_is_that_of_its_source(zone: str, source: str, *, covered: bool) -> None:
    frame = Frame(noise(), 0, 0.0, source)
    filled = ImageFilter(Privacy(zones=[zone])).fill(frame)
    assert (filled is not frame) == covered


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected"),
        ("door", "expected"),
        ("0,0,1", "expected"),
        ("0,0,1,1,1", "expected"),
        ("=0,0,1,1", "expected"),
        ("0,0,100,100", "from 0 to 1"),
        ("0,-0.1,1,1", "from 0 to 1"),
        ("0,0,nan,1", "from 0 to 1"),
        ("0.5,0,0.5,1", "empty"),
        ("0.6,0,0.5,1", "empty"),
        ("0,0,0.5,0.5,1,1", "no area"),
        ("0,0,1,1,1,0,0,0.5", "cross"),
    ],
)
def test_mistakes_are_refused(text: str, words: str) -> None:
    with pytest.raises(EmotionError, match=words):
        parse_zone(text)


def test_zone_of_a_source_that_does_not_exist_is_refused() -> None:
    zones = [parse_zone("door=0,0,1,1"), parse_zone("0,0,1,1")]
    check_zones(zones, ["yard", "door"])
    with pytest.raises(EmotionError, match=r"door.*yard"):
        check_zones(zones, ["yard", "doors"])


@pytest.mark.parametrize(
    "privacy", [Privacy(blur="face"), Privacy(zones="0,0,1,1"), Privacy(zones=["x"]), "faces"]
)
def test_wrong_values_of_privacy_are_refused(privacy: Privacy) -> None:
    with pytest.raises(EmotionError, match="expected"):
        ImageFilter(privacy)
