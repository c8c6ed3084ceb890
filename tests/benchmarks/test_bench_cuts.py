"""The benchmark of scene cuts counts what it says, and its page is that of the committed results."""

import json

import numpy as np
import pytest

import bench_cuts
from emotion_bench.identity_scenes import rooms
from emotion_bench.report import RESULTS
from emotion_runtime.types import Frame

ROOMS = rooms(2, 0)


def frames(images: list[np.ndarray], rate: float) -> list[Frame]:
    return [Frame(image, index, index / rate, "made") for index, image in enumerate(images)]


def test_cuts_in_a_video_are_counted_at_a_lower_rate_too() -> None:
    clip = frames([ROOMS[0]] * 10 + [ROOMS[1]] * 10, 20)
    assert [bench_cuts.cuts_in(clip, rate) for rate in (25, 10)] == [1, 1]
    assert bench_cuts.cuts_in(frames([ROOMS[0]] * 5, 20), 25) == 0


def test_the_share_of_the_cuts_between_any_two_scenes() -> None:
    different, same = [(room, room) for room in ROOMS], [(ROOMS[0], ROOMS[0])] * 2
    assert bench_cuts.share_found(different, 25) == 1
    assert bench_cuts.share_found(same, 25) == 0


def test_the_committed_page_is_that_of_the_results() -> None:
    folder = RESULTS / "cuts"
    result = json.loads((folder / "cuts.json").read_text())
    assert bench_cuts.page(result) == (folder / "cuts.md").read_text()


def test_without_videos_there_is_no_cut_between_any_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_cuts.main([])
    assert "--videos" in capsys.readouterr().err
