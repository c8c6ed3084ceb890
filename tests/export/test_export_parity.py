import re
from pathlib import Path

import numpy as np
import pytest
from exported import Exported

from emotion_export.parity import (
    SIZES,
    TOLERANCES,
    compare,
    parity_batches,
    parity_scenes,
    refuse_differences,
    within_tolerance,
)
from emotion_runtime.bundle import Parity, load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.model import PRESETS

SPECS = [PRESETS["nano"].preprocess, PRESETS["vit-b-32"].preprocess]


def row(**figures: float) -> Parity:
    good = {"max_abs": 1e-6, "mean_abs": 1e-7, "cosine_min": 1.0}
    return Parity("frame_encoder", 3, 2, **{**good, **figures}, tolerance=1e-4)


def test_figures_of_a_difference():
    expected = np.array([[3, 4], [1, 0]], np.float32)
    found = np.array([[4, 3], [1, 0]], np.float32)  # cosine (12 + 12) / 25
    figures = compare("frame_encoder", (5, 2), expected, found)
    assert (figures.graph, figures.frames, figures.persons) == ("frame_encoder", 5, 2)
    assert figures.max_abs == 1
    assert figures.mean_abs == 0.5
    assert figures.cosine_min == pytest.approx(0.96, abs=1e-12)
    assert figures.tolerance == TOLERANCES["frame_encoder"].max_abs


def test_other_shapes_are_refused():
    with pytest.raises(EmotionError, match=r"gives \(1, 4\), the torch model \(3, 4\)"):
        compare("frame_encoder", (1, 3), np.ones((3, 4), np.float32), np.ones((1, 4), np.float32))


@pytest.mark.parametrize("figure", ["max_abs", "mean_abs", "cosine_min"])
@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_each_figure_is_held_against_its_tolerance(figure: str, value: float):
    assert within_tolerance(row(), TOLERANCES["frame_encoder"])
    refuse_differences([row()], TOLERANCES)
    bad = row(**{figure: value})
    assert not within_tolerance(bad, TOLERANCES["frame_encoder"])
    with pytest.raises(EmotionError, match=r"frame_encoder.onnx differs .* 3 persons") as error:
        refuse_differences([row(), bad], TOLERANCES)
    assert "\n" not in str(error.value)


def test_not_a_number_is_a_difference():
    expected = np.full((1, 4), np.nan, np.float32)
    assert not within_tolerance(
        compare("frame_encoder", (1, 1), expected, expected), TOLERANCES["frame_encoder"]
    )


def test_sizes_tell_constants_from_dimensions():
    assert {1, 3, 8} <= {persons for _, persons in SIZES}
    assert {1, 2} <= {pictures for pictures, _ in SIZES}
    assert any(pictures < persons for pictures, persons in SIZES)
    assert any(pictures > persons for pictures, persons in SIZES)


@pytest.mark.parametrize("spec", SPECS, ids=["nano", "vit-b-32"])
def test_batches_show_all_scenes_and_all_kinds_of_persons(spec: PreprocessSpec):
    scenes = [np.full((90, 160, 3), (7, 20, 10 * i), np.uint8) for i in range(1, 20)]
    batches = parity_batches(spec, scenes)
    assert set(batches) == set(SIZES)
    colors, weights = set(), []
    for (pictures, persons), group in batches.items():
        for batch in group:
            assert batch.images.shape == (pictures, spec.size, spec.size, 3)
            assert batch.frame_index.shape == (persons,)
            assert batch.frame_index.max() < pictures
            assert (batch.images[..., 1:] == (20, 7)).all()  # RGB of BGR scenes
            colors |= {int(red) for red in batch.images[:, 0, 0, 0]}
            weights.append(batch.patch_weights)
    assert colors == {10 * i for i in range(1, 20)}
    rows = np.concatenate(weights)
    assert rows.min() == 0
    assert rows.max() <= 1
    empty, full = (rows == 0).all(axis=1), (rows == 1).all(axis=1)
    assert empty.any()
    assert full.any()
    assert (~empty & ~full & (rows == 0).any(axis=1)).any()  # a box that covers some patches


def test_scenes_are_pictures_not_only_noise():
    noise, *others = (scene.astype(float) for scene in parity_scenes([]))
    step = {id(scene): np.abs(np.diff(scene, axis=1)).mean() for scene in (noise, *others)}
    assert len(others) >= 2
    assert all(scene.std() > 10 and step[id(scene)] < step[id(noise)] / 5 for scene in others)


def test_videos_are_scenes_too(shared_data: Path):
    video = shared_data / "videos" / "vtest.avi"
    added = parity_scenes([str(video)])[len(parity_scenes([])) :]
    assert added
    assert {scene.shape for scene in added} == {(576, 768, 3)}
    with pytest.raises(EmotionError, match=r"absent\.mp4"):
        parity_scenes(["absent.mp4"])


def test_the_report_is_on_the_screen_in_the_manifest_and_in_the_card(nano: Exported):
    rows = load_bundle(nano.folder).manifest.parity
    assert {(r.graph, r.frames, r.persons) for r in rows} == {
        *(("frame_encoder", *size) for size in SIZES),
        *(("temporal_encoder", 8, persons) for persons in (1, 3, 8)),
    }
    assert all(within_tolerance(r, TOLERANCES[r.graph]) for r in rows)
    assert all(r.max_abs > 0 for r in rows)  # two different programs never agree to the last bit
    card = (nano.folder / "MODEL_CARD.md").read_text()
    for text in (nano.screen, card):
        lines = re.findall(
            r"^\| (frame_encoder|temporal_encoder) +\| +(\d) \| +(\d) \| +(\S+) \|", text, re.MULTILINE
        )
        assert lines == [(r.graph, str(r.persons), str(r.frames), f"{r.max_abs:.1e}") for r in rows]
