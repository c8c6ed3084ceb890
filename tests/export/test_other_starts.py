"""Models that start from other CLIP weights than ViT-B/32 have a grid and an activation of their own."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch
from exported import SMALL, trained
from PIL import Image

from emotion_export.graphs import graph_sources
from emotion_export.onnx import write_graph
from emotion_runtime import EmotionRuntime
from emotion_runtime.bundle import load_bundle
from emotion_train.checkpoint import save_checkpoint
from emotion_train.cli import main
from emotion_train.model import PRESETS, ModelConfig
from emotion_train.model.config import CLIP_MEAN, CLIP_STD
from emotion_train.model.encode import normalise

pytestmark = pytest.mark.slow


def config_of(subject: str, patch: int) -> ModelConfig:
    """Return a small model with a grid of 4 x 4 patches, as CLIP's own: linear patches, QuickGELU."""
    spec = msgspec.structs.replace(
        PRESETS["vit-b-16"].preprocess,
        size=4 * patch,
        patch=patch,
        short_side=4 * patch,
        window="subject",
        subject_scale=1.5,
    )
    assert (spec.mean, spec.std) == (CLIP_MEAN, CLIP_STD)
    return replace(
        SMALL,
        preprocess=spec,
        stem="patch",
        subject=subject,
        subject_bias=False,
        activation="quick_gelu",
        text_vocab=PRESETS["nano"].text_vocab,
    )


@pytest.mark.parametrize(("subject", "patch"), [("sap", 16), ("saam", 14), ("shared", 14), ("none", 16)])
def test_every_way_of_telling_the_subject_is_exported(subject: str, patch: int, tmp_path: Path):
    model, path = trained(config_of(subject, patch)), tmp_path / "frame_encoder.onnx"
    write_graph(graph_sources(model)[0], path)
    session = onnxruntime.InferenceSession(path)
    spec, rng = model.config.preprocess, np.random.default_rng(0)
    for images, people in ((1, 1), (2, 3)):
        feed = {
            "images": rng.integers(0, 256, (images, spec.size, spec.size, 3), dtype=np.uint8),
            "frame_index": rng.integers(0, images, people),
            "patch_weights": rng.random((people, spec.patches), np.float32),
        }
        feed["patch_weights"][-1] = 0
        (found,) = session.run(["embeddings"], feed)
        expected = model.encode_people(
            normalise(torch.from_numpy(feed["images"]), spec),
            torch.from_numpy(feed["frame_index"]),
            torch.from_numpy(feed["patch_weights"]),
        )
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=1e-4)


def write_table(folder: Path) -> Path:
    """Write images of two classes that any encoder tells apart, and their table."""
    folder.mkdir()
    rows = ["path,split,label"]
    splits, classes = ("train", "val", "test"), (("sad", 20), ("happy", 220))
    for split, (label, level), index in product(splits, classes, range(8)):
        name = f"{split}-{label}-{index}.png"
        pixels = np.random.default_rng(len(rows)).integers(
            level - 20, level + 20, (60, 80, 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(folder / name)
        rows.append(f"{name},{split},{label}")
    (folder / "table.csv").write_text("\n".join(rows))
    return folder / "table.csv"


def test_a_probe_and_a_bundle_of_it_run(tmp_path: Path, to_onnx: Callable[[list[str]], int]):
    model = trained(config_of("sap", 14))
    checkpoint, out, probe = (tmp_path / name for name in ("checkpoint.pt", "bundle", "probe"))
    save_checkpoint(checkpoint, config=model.config, state={"model": model.state_dict()})
    table = write_table(tmp_path / "own")
    argv = ["--dataset", "table", "--data", str(table), "--checkpoint", str(checkpoint), "--out", str(probe)]
    assert main(["fit-probe", *argv]) == 0
    assert to_onnx(["--checkpoint", str(checkpoint), "--out", str(out), "--probe", str(probe)]) == 0
    assert load_bundle(out).manifest.preprocess == model.config.preprocess
    people = [person for event in EmotionRuntime(bundle=out).stream("demo") for person in event.persons]
    assert people
    assert all(person.raw.keys() == {"sad", "happy"} for person in people if person.raw)
    assert any(person.raw for person in people)
