import re

import pytest

from emotion_train.prepare.page import render, warnings
from emotion_train.prepare.pairing import VideoPairs
from emotion_train.prepare.settings import PrepareSettings
from emotion_train.prepare.statistics import Statistics, gather, histogram
from emotion_train.prepare.work import CaptionCounts, ClipFacts, SentenceFacts, VideoResult


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([0, 0.049, 0.05, 0.1, 0.15, 0.3], [2, 1, 1, 2]),  # 0.15 / 0.05 is a little under 3; beyond: the last
        ([], [0, 0, 0, 0]),
        ([0.2, 7.0], [0, 0, 0, 2]),
    ],
)
def test_bins_hold_their_lower_edge(values: list[float], counts: list[int]):
    counted = histogram(values, 0.05, 0.2)
    assert counted.counts == counts
    assert counted.edges == [0, 0.05, 0.1, 0.15, 0.2]


def statistics_of(*results: VideoResult, alone: tuple[str, ...] = ()) -> Statistics:
    return gather(
        PrepareSettings(), VideoPairs([], list(alone), [], []), list(results), shards=2, size=1_500_000
    )


def film(persons: list[int]) -> VideoResult:
    """A clip of 3 s and a neutral sentence."""
    return VideoResult(
        "film",
        [],
        captions=CaptionCounts(5, 2, 1),
        sentences=[SentenceFacts(3.0, 0.01, "kept"), SentenceFacts(4.0, 0.5, "too neutral")],
        clips=[ClipFacts(len(persons), persons, 3)],
    )


def test_counts():
    broken = VideoResult("truncated", [], error="cut off")
    got = statistics_of(film([0, 1, 1, 12]), film([2, 2]), broken)
    assert (got.videos, got.broken, got.clips, got.frames) == (3, {"truncated": "cut off"}, 2, 6)
    assert (got.cues, got.overlapping_cues, got.repeated_cues) == (10, 4, 2)
    assert {outcome: count for outcome, count in got.sentences.items() if count} == {
        "kept": 2,
        "too neutral": 2,
    }
    assert got.persons == [1, 2, 2, 0, 0, 0, 0, 0, 1]  # 12 are "8 or more"
    assert got.frames_without_persons == 1
    assert got.clip_seconds == 6.0
    assert got.sentiment["happiness"] == 2
    assert sum(got.seconds.counts) == 4
    assert got.seconds.counts[6] == got.kept_seconds.counts[6] == 2  # 3.0 s is in [3.0, 3.5)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([film([0, 0]), film([0])], "no person was found in any frame"),
        ([film([0, 0]), film([0, 1])], None),
        ([VideoResult("none", [])], "no sentence became a clip"),
    ],
)
def test_warnings(results: list[VideoResult], expected: str | None):
    lines = warnings(statistics_of(*results))
    assert len(lines) == (expected is not None)
    assert all(line.startswith(str(expected)) for line in lines)


def test_names_of_files_are_text_and_nothing_else():
    got = statistics_of(film([1]), VideoResult("<b>&x", [], error='"<script>"'), alone=("<img src=x>",))
    page = render(got, "")
    assert "&lt;b&gt;&amp;x: &quot;&lt;script&gt;&quot;" in page
    assert "<img" not in page
    assert "<script" not in page
    assert "1.5 MB" in page


def test_long_lists_are_cut_and_counted():
    page = render(statistics_of(film([1]), alone=tuple(f"film-{n:04d}" for n in range(1000))), "")
    assert "Videos without captions: 1,000" in page
    assert len(re.findall(r"<li>film-\d+", page)) == 200
    assert "and 800 more" in page


def test_the_same_counts_give_the_same_page():
    pages = [render(statistics_of(film([0, 1, 3])), "") for _ in range(2)]
    assert pages[0] == pages[1]
