"""The benchmark of conditions: each changes one thing, and flips are counted on what was right."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import bench_conditions
from emotion_bench.candidates import Candidate
from emotion_bench.condition_results import measure, page
from emotion_bench.conditions import CONDITIONS, HALVES
from emotion_runtime.bundle import load_bundle
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.views import FRAME_PX, HEAD_PX, PLAIN, Condition, View, views

SPEC = load_bundle("nano").manifest.preprocess


def made_faces(count: int = 8) -> Faces:
    """Return faces of noise, of classes 0 to 6 in turn."""
    images = np.random.default_rng(0).integers(0, 255, (count, 48, 48), dtype=np.uint8)
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), 3) for image in images])
    return Faces.of_labels(np.asarray(blurred, np.uint8), np.arange(count) % 7)


def seen(row: int = 0) -> dict[str, View]:
    everything = {PLAIN: Condition(), **CONDITIONS}
    return dict(zip(everything, views(made_faces(), row, everything, 5), strict=True))


# --- views


def test_the_plain_view_has_a_head_of_160_pixels_inside_the_image():
    for row in range(4):
        x1, y1, x2, y2 = seen(row)[PLAIN].box
        assert x2 - x1 == pytest.approx(HEAD_PX, abs=0.01)
        assert min(x1, y1) > 0
        assert max(x2, y2) < FRAME_PX


@pytest.mark.parametrize("pixels", [30, 20])
def test_a_distant_head_has_the_stated_width(pixels: int):
    x1, _, x2, _ = seen()[f"head of {pixels} px"].box
    assert x2 - x1 == pytest.approx(pixels, rel=0.02)


def test_a_condition_of_the_box_leaves_the_image_and_one_of_the_image_the_box():
    by_name = seen()
    for name, view in by_name.items():
        if name.startswith("box"):
            np.testing.assert_array_equal(view.image, by_name[PLAIN].image)
            assert view.box != by_name[PLAIN].box
        elif "head" not in name and name not in (PLAIN, "mirror image"):
            assert (view.image != by_name[PLAIN].image).any()
            assert view.box == by_name[PLAIN].box


def test_a_larger_box_keeps_its_middle_and_a_shifted_one_its_size():
    by_name = seen()
    x1, y1, x2, y2 = by_name[PLAIN].box
    larger, shifted = by_name["box x 1.25"].box, by_name["box shifted 10 %"].box
    assert larger[0] + larger[2] == pytest.approx(x1 + x2)
    assert larger[3] - larger[1] == pytest.approx(1.25 * (y2 - y1))
    assert shifted == pytest.approx((x1 + 16, y1, x2 + 16, y2), abs=0.01)


def test_the_mirror_image_shows_the_same_head():
    by_name = seen()
    plain, mirrored = by_name[PLAIN], by_name["mirror image"]
    np.testing.assert_array_equal(mirrored.image[:, ::-1], plain.image)
    assert mirrored.box[0] == pytest.approx(FRAME_PX - plain.box[2])


def test_each_half_that_is_covered_is_the_one_that_is_named():
    by_name = seen()
    x1, y1, x2, y2 = by_name[PLAIN].box
    sides = {"lower": (0, 1), "upper": (0, -1), "left": (-1, 0), "right": (1, 0)}
    assert {f"{side} half covered" for side in sides} == set(HALVES)
    for side, (across, down) in sides.items():
        view = by_name[f"{side} half covered"]
        rows, columns = np.nonzero((view.image != by_name[PLAIN].image).any(axis=2))
        center = np.array([columns.mean() - (x1 + x2) / 2, rows.mean() - (y1 + y2) / 2]) / (x2 - x1)
        assert center @ [across, down] > 0.15
        assert 0.2 < len(rows) / ((x2 - x1) * (y2 - y1)) < 0.6


def test_the_same_seed_gives_the_same_views():
    first, again = seen(3), seen(3)
    for name in first:
        np.testing.assert_array_equal(first[name].image, again[name].image)
        assert first[name].box == again[name].box


# --- results


FEW = {name: CONDITIONS[name] for name in ("head of 20 px", *HALVES)}


class _Bright:
    """An encoder whose feature is the mean brightness of the crop."""

    spec: PreprocessSpec = SPEC

    def features(
        self, images: NDArray[np.uint8], patch_weights: NDArray[np.float32], kind: str
    ) -> NDArray[np.float32]:
        del patch_weights, kind
        return images.mean(axis=(1, 2, 3, 4), dtype=np.float32)[:, None]


def _always(label: int) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    return lambda features: np.tile(np.eye(7)[label] * 0.6 + 0.05, (len(features), 1))


def test_a_constant_prediction_is_never_flipped_and_loses_nothing():
    result = measure(Candidate("constant", _Bright(), _always(0), 0.9), made_faces(28), FEW, seed=1)
    for row in result["conditions"].values():
        assert row["accuracy"]["value"] == pytest.approx(4 / 28, abs=1e-4)
        assert row["flipped"]["value"] == row["points_lost"] == 0
        assert row["calm_taken_for_negative"]["value"] == 1  # label 0 is anger
        assert row["not_sure"]["value"] == 1  # 0.65 is under the threshold
    assert result["half_covered_points_lost"] == 0
    assert result["scenes"]["not_sure"] == 1


def test_what_is_right_in_the_plain_view_and_wrong_in_a_condition_is_flipped():
    bright = {"brighter": Condition(view=lambda view, _: View(np.full_like(view.image, 255), view.box))}

    def head(features: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.eye(7)[np.where(features[:, 0] > 254, 1, 0)].astype(float)

    faces = Faces.of_labels(made_faces(6).images, np.array([0, 0, 0, 1, 1, 2]))
    row = measure(Candidate("made", _Bright(), head), faces, bright, seed=1)["conditions"]
    assert row["plain"]["accuracy"]["value"] == 0.5
    assert row["brighter"]["flipped"]["value"] == 1.0
    assert row["brighter"]["accuracy"]["value"] == pytest.approx(2 / 6, abs=1e-4)
    assert row["brighter"]["points_lost"] == pytest.approx(16.67)


@pytest.mark.slow
def test_the_command_writes_json_and_a_table(shared_data: Path, tmp_path: Path):
    arguments = ["--data", str(shared_data), "--faces", "16", "--out", str(tmp_path)]
    assert bench_conditions.main(arguments) == 0
    result = json.loads((tmp_path / "conditions.json").read_text())
    assert set(result["conditions"]) == {PLAIN, *CONDITIONS}
    assert (tmp_path / "conditions.md").read_text() == page(result)


def test_a_missing_archive_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert bench_conditions.main(["--data", str(tmp_path)]) == 2
    assert "face archive not found" in capsys.readouterr().err
