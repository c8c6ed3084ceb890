"""Privacy zones: how they are written, what is filled, and that the detector never sees it."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_runtime.config import RunConfig
from emotion_runtime.errors import EmotionError
from emotion_runtime.metrics import StageTimer
from emotion_runtime.privacy.image_filter import ImageFilter, Privacy
from emotion_runtime.privacy.zones import Zones, check_zones, parse_zone
from emotion_runtime.run_sources import checked_addresses, open_rounds
from emotion_runtime.stop_signals import StopRequest
from emotion_runtime.types import Frame, RunLine


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
    check_zones(zones, {"yard": ["yard"], "door": ["door/a.mp4"]})
    with pytest.raises(EmotionError, match=r"door.*yard"):
        check_zones(zones, {"yard": ["yard"], "doors": ["doors"]})


@pytest.mark.parametrize(
    ("zone", "covered"),
    [
        ("door", {"door", "door/a.mp4"}),
        ("clips", {"clips/a.mp4", "clips/b/a.mp4"}),
        ("./clips/", {"clips/a.mp4", "clips/b/a.mp4"}),
        ("clips/../clips", {"clips/a.mp4", "clips/b/a.mp4"}),
        ("clips/*.mp4", {"clips/a.mp4", "clips/b/a.mp4"}),
        ("./clips/**/a.mp4", {"clips/a.mp4", "clips/b/a.mp4"}),
        ("./clips/a.mp4", {"clips/a.mp4"}),
        ("clip", set()),
        ("clips/a", set()),
    ],
)
def test_zone_covers_files_however_their_path_is_written(zone: str, covered: set[str]) -> None:
    names = ["door", "door/a.mp4", "doors", "clips/a.mp4", "clips/b/a.mp4"]
    parsed = parse_zone(f"{zone}=0,0,1,1")
    assert {name for name in names if parsed.covers(name)} == covered
    assert parse_zone(".=0,0,1,1").covers("a.mp4")
    for written in ("clips/a[1].mp4", "./clips/a[1].mp4"):  # brackets of a name, not of a pattern
        assert parse_zone(f"{written}=0,0,1,1").covers("clips/a[1].mp4")


@pytest.mark.parametrize("written", ["clips", "./clips", "clips/", "clips/*.png", "./clips/a.png"])
@pytest.mark.parametrize("one_by_one", [False, True])
def test_zone_that_is_written_like_its_source_covers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, one_by_one: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    cv2.imwrite("clips/a.png", noise())
    config = RunConfig(
        source=[written], zone=[f"{written}=0,0,1,1"], jsonl="results/" if one_by_one else None
    )
    addresses, _ = checked_addresses(config)
    filled = ImageFilter(Privacy(zones=config.zone))
    run_line = RunLine(version="1", bundle="nano", bundle_sha256="", head="probe")
    with open_rounds(addresses, config, run_line, StageTimer(), StopRequest(), []) as rounds:
        frames = [filled.fill(frame) for one in rounds for frame in one.frames]
    assert [frame.image.max() < 100 for frame in frames] == [True]


@pytest.mark.parametrize(
    "privacy", [Privacy(blur="face"), Privacy(zones="0,0,1,1"), Privacy(zones=["x"]), "faces"]
)
def test_wrong_values_of_privacy_are_refused(privacy: Privacy) -> None:
    with pytest.raises(EmotionError, match="expected"):
        ImageFilter(privacy)
