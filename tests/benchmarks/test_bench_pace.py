"""Predicted boxes agree with those of a detector that sees every frame, and the benchmark says how well."""

import json
from pathlib import Path

import numpy as np
import pytest

import bench_pace
from emotion_bench.between_detections import Clip, agreement, read_clip
from emotion_runtime.detectors import load_detector
from emotion_runtime.types import Detections, Frame


def passing(speed: float) -> Clip:
    """Return a clip of a head of 40 pixels that moves so many widths per second, at 25 frames per second."""
    image = np.zeros((100, 2000, 3), np.uint8)
    frames = [Frame(image, index, index / 25, "passing") for index in range(50)]
    lefts = [10 + 40 * speed * frame.t for frame in frames]
    found = [
        Detections(np.array([[left, 20, left + 40, 70]], np.float32), np.ones(1, np.float32))
        for left in lefts
    ]
    return Clip("passing", frames, found)


@pytest.mark.parametrize("speed", [0.0, 1.0, 5.0])
def test_every_box_agrees_if_people_move_evenly(speed: float):
    result = agreement(passing(speed), 0.2)
    assert (result.boxes, result.agreeing) == (50, 50)
    assert 0 < result.predicted < 50
    assert 0.07 < result.detect_every <= 0.2


def test_boxes_that_stay_behind_do_not_agree():
    clip = passing(5.0)
    turned = [Detections(each.boxes - np.float32([400, 0, 400, 0]), each.scores) for each in clip.found[25:]]
    result = agreement(Clip("turned", clip.frames, clip.found[:25] + turned), 0.4)
    assert result.agreeing < result.boxes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clip", "least"),
    [
        ("intel_head-pose-face-detection-female-and-male", 0.98),
        ("intel_face-demographics-walking-and-pause", 0.97),
    ],
)
def test_boxes_of_real_people_agree(shared_data: Path, clip: str, least: float):
    found = read_clip(str(shared_data / "videos" / f"{clip}.gif"), load_detector("face", threads=1), 60)
    result = agreement(found, 0.2)
    assert result.detect_every > 0.19
    assert result.agreeing >= least * result.boxes
    assert result.predicted_agreeing >= 0.95 * result.predicted


@pytest.mark.slow
def test_the_benchmark(tmp_path: Path):
    assert bench_pace.main(["--quick", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "pace.json").read_text())
    assert {row["every"] for row in result["boxes"]} == set(bench_pace.INTERVALS)
    assert all(row["boxes"] == 80 for row in result["boxes"])
    assert [row["frames"] for row in result["batches"]] == list(bench_pace.BATCHES)
    assert result["people"]["encode_every"] == pytest.approx(0.2, rel=0.1)
    text = (tmp_path / "pace.md").read_text()
    assert "| face     | demo" in text
