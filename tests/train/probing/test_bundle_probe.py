"""fit-probe on a bundle's graphs: no torch, no checkpoint, and a new bundle that the runtime loads."""

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_runtime.bundle import load_bundle
from emotion_runtime.heads import load_head
from emotion_runtime.sources.demo import read_demo
from emotion_train.heads import HeadCard, LinearHead
from emotion_train.probing.new_bundle import write_bundle

WITHOUT_TORCH = """
import sys
from importlib.abc import MetaPathFinder

class NoTorch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "open_clip"):
            raise ModuleNotFoundError(f"{name} was imported", name=name)

sys.meta_path.insert(0, NoTorch())
from emotion_train.cli import main
sys.exit(main(sys.argv[1:]))
"""
pytestmark = pytest.mark.slow

BOXES = {"left": (120, 60, 280, 300), "right": (360, 60, 520, 300)}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of two people of the demo, who are told apart by their box."""
    folder = tmp_path_factory.mktemp("table")
    rows = []
    for index, frame in enumerate(read_demo()):
        if index % 15:
            continue
        name = f"{index}.png"
        cv2.imwrite(str(folder / name), frame.image)
        split = ("train", "val", "test")[len(rows) // 2 % 3]
        for label, box in BOXES.items():
            rows.append([name, split, *box, label])
    with (folder / "people.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["path", "split", "x1", "y1", "x2", "y2", "who"])
        writer.writerows(rows)
    return folder / "people.csv"


@pytest.fixture(scope="module")
def out(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("probe") / "mine"
    argv = ["fit-probe", "--bundle", "nano", "--dataset", "table", "--data", str(table), "--out", str(out)]
    argv += ["--label-columns", "who", "--box-columns", "x1", "y1", "x2", "y2", "--cache", str(out / "cache")]
    argv += ["--resamples", "20"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *argv], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out


def test_the_new_bundle_has_the_heads_of_the_table(out: Path):
    bundle, source = load_bundle(out / "bundle"), load_bundle("nano")
    head = bundle.manifest.heads["probe"]
    assert sorted(head.labels) == ["left", "right"]
    assert bundle.manifest.default_head == "probe"
    assert head.metrics["test_accuracy"] > 0.9  # the camera moves a little
    assert 0 < head.abstain <= 1
    assert bundle.manifest.name == "mine"
    assert bundle.manifest.graphs == source.manifest.graphs
    assert bundle.manifest.heads["zero_shot"] == source.manifest.heads["zero_shot"]
    np.testing.assert_array_equal(
        load_head(bundle, "zero_shot").weight, load_head(source, "zero_shot").weight
    )
    assert "left, right" in (out / "bundle" / "MODEL_CARD.md").read_text()


def test_it_may_be_written_again_but_not_over_other_files(out: Path):
    from emotion_train.heads import load_head as read_head  # noqa: PLC0415
    from emotion_train.probing.new_bundle import write_bundle  # noqa: PLC0415

    heads = {"probe": read_head(out, "probe")}
    write_bundle(load_bundle("nano"), heads, out / "bundle", dataset="table")
    assert load_bundle(out / "bundle").manifest.heads["probe"].labels == heads["probe"].card.labels
    (out / "bundle" / "notes.txt").write_text("mine")
    with pytest.raises(Exception, match=r"files that do not belong to a bundle of fit-probe \(notes.txt\)"):
        write_bundle(load_bundle("nano"), heads, out / "bundle", dataset="table")
    (out / "bundle" / "notes.txt").unlink()


def test_the_card_of_a_new_bundle_says_which_heads_were_fitted(tmp_path: Path):
    """With scenes, fit-probe measures the heads made from text as well."""
    source = load_bundle("nano")
    heads = {}
    for name in ("probe", "zero_shot"):
        stored, told = load_head(source, name), source.manifest.heads[name]
        card = HeadCard(
            told.kind, told.labels, told.activation, told.temperature, {"val_ece": 0.1}, "ab" * 32
        )
        heads[name] = LinearHead(stored.weight, np.asarray(stored.bias, np.float32), card)
    card_text = (
        write_bundle(source, heads, tmp_path / "new", dataset="scenes") / "MODEL_CARD.md"
    ).read_text()
    probe, zero_shot = card_text.split("## Head ")[1:]
    assert "Fitted on labelled data." in probe
    assert "Fitted" not in zero_shot
    assert "Made from text by that bundle, not fitted." in zero_shot
