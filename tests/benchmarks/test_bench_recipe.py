"""The benchmark of the recipe: each row has what it is called, and the last one is the recipe."""

from pathlib import Path

import msgspec
import pytest

import bench_recipe
from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import save_checkpoint
from emotion_train.model import PRESETS
from emotion_train.training.config import Scenes
from emotion_train.training.config_files import load_config


def test_each_row_adds_parts_and_the_last_is_the_recipe():
    recipe = load_config(bench_recipe.CONFIG)
    assert recipe.scenes is not None
    parts: set[str] = set()
    before = None
    for more in bench_recipe.STAGES.values():
        parts.update(more)
        config = bench_recipe.config_of(recipe, parts, 7)
        assert config.scenes is not None
        assert config.scenes.steps == 7
        now = msgspec.structs.asdict(config.scenes)
        if before is None:
            plain = Scenes(steps=7)
            assert all(now[name] == getattr(plain, name) for name in ("supervised", "poor", "close_ups"))
        else:
            assert {name for name in now if now[name] != before[name]} == set(more)
        before = now
    assert before == msgspec.structs.asdict(msgspec.structs.replace(recipe.scenes, steps=7))


def test_a_checkpoint_of_another_stage_is_refused(tmp_path: Path):
    path = tmp_path / "cold.pt"
    save_checkpoint(path, config=PRESETS["nano"], state={"stage": "scenes", "model": {}, "heads": {}})
    recipe = load_config(bench_recipe.CONFIG)
    # Refused before any data is read.
    with pytest.raises(EmotionError, match="expected a checkpoint at the end of the stage stem"):
        bench_recipe.train(recipe, None, tmp_path / "run", path)  # type: ignore[arg-type]
