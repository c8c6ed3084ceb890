"""The benchmark of hidden faces."""

import json
from pathlib import Path

import numpy as np
import pytest

import bench_blur
from result_tables import between_markers

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "blur"


def test_pasted_heads_are_where_the_benchmark_says() -> None:
    head = np.zeros((160, 160, 3), np.uint8)
    head[30:130, 30:130] = 255  # without the context around it
    image, faces = bench_blur.pasted([head] * 3, 40, (320, 240), moved=8)
    assert len(faces) == 3
    for x1, y1, x2, y2 in faces:
        assert image[round(y1) + 2 : round(y2) - 2, round(x1) + 2 : round(x2) - 2].min() > 240
    assert faces[1][0] - faces[0][0] == pytest.approx(320 // 3)


def test_share_of_a_face_that_is_hidden() -> None:
    mask = bench_blur.mask_of([(-5, 2, 4, 8)], (10, 10))
    assert bench_blur.share(mask, (0, 2, 8, 8)) == 0.5
    assert bench_blur.share(mask, (0, 2, 4, 8)) == 1.0
    assert not bench_blur.mask_of([], (10, 10)).any()


def test_rows_are_by_width() -> None:
    faces = [{"width": width, "hidden": width > 20, "again": False} for width in (15.0, 20.0, 23.0, 200.0)]
    rows = {row["from"]: row for row in bench_blur.rows_of(faces)}
    assert (rows[16]["faces"], rows[16]["hidden"]) == (2, 1)
    assert rows[64]["faces"] == 1


def test_the_page_on_privacy_has_the_results() -> None:
    text = bench_blur.page(json.loads((RESULTS / "blur.json").read_text()))
    assert text == (RESULTS / "blur.md").read_text()
    tables = text.split("\n", 2)[2].strip()
    page = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    assert between_markers(page, "blur", tables) == page


def test_the_stated_working_range_is_that_of_the_results() -> None:
    """At least 95 % of the faces are hidden from these widths of the head on."""
    least: dict[tuple[int, int], int] = {}
    for row in reversed(json.loads((RESULTS / "blur.json").read_text())["pasted"]):
        frame = tuple(row["frame"])
        if row["hidden"] >= 0.95 * row["faces"] and least.get(frame, row["width"]) >= row["width"]:
            least[frame] = row["width"]
    assert least == {(480, 270): 28, (640, 360): 40, (1280, 720): 48, (1920, 1080): 40}
