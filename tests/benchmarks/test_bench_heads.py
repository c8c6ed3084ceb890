"""The benchmark of heads compares the right people, and its page is that of the committed results."""

import json
from typing import Any

import numpy as np
import pytest

import bench_heads
from emotion_bench.report import RESULTS
from emotion_runtime.types import Person, Quality


def person(x: float, emotion: str, *, head_px: float = 20.0, top: str | None = None) -> Person:
    raw = {"anger": 0.1, "fear": 0.1} | {emotion: 0.9}
    quality = Quality(head_px=head_px, sharpness=0.9, inside=1.0, frontal=1.0, roll_deg=0.0)
    box = (x, 0.0, x + 10, 10.0)
    return Person(id=1, box=box, score=1.0, state="photo", top=top, emotions=raw, raw=raw, quality=quality)


class Looking:
    """A runtime that finds the same people in every photo."""

    def __init__(self, *people: Person) -> None:
        self.people = list(people)

    def look(self, _: object) -> list[Person]:
        return self.people


def test_people_are_compared_with_the_only_face_in_their_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_heads, "frames_of", lambda _: [np.zeros((2, 2, 3), np.uint8)] * 3)
    runtimes: Any = (
        Looking(person(0, "fear", top="fear"), person(100, "fear"), person(200, "anger", head_px=0)),
        Looking(person(0, "anger"), person(100, "fear"), person(200, "anger")),
        Looking(person(2, "fear"), person(98, "fear"), person(103, "fear"), person(200, "anger")),
    )
    row = bench_heads.measure_video("clip.mp4", *runtimes)
    assert row == {
        "video": "clip.mp4",
        "frames": 3,
        "people": 9,
        "heads": 6,
        "labels": 3,
        "compared": 3,  # two faces are in the second box, and the third person has no head
        "same_of_head": 3,
        "same_of_body": 0,
    }


def test_the_committed_page_is_that_of_the_results() -> None:
    folder = RESULTS / "heads"
    result = json.loads((folder / "heads.json").read_text())
    assert bench_heads.page(result) == (folder / "heads.md").read_text()
