"""Every table and figure of the paper by one command, at a scale that only shows that it works."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command import Command
from made_shards import write_set
from PIL import Image
from tiny_run import write_table
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import load_checkpoint
from emotion_train.reproduce.training import (
    Plan,
    labelled_sets,
    ranks_of_own,
    train_and_measure,
    whole_model,
)
from emotion_train.reproduce.variants import FIGURE_6, TABLE_1, TABLE_3, WHOLE, config_of
from emotion_train.training.run import Run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_set(folder / "shards", 8)
    write_set(folder / "held-out", 6)
    table = write_table(folder / "own")
    text = table.read_text().splitlines()
    (folder / "table.csv").write_text("\n".join([text[0], *(f"own/{line}" for line in text[1:])]))
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("paper")


def made(name: str, data: Path, out: Path) -> str:
    argv = [name, "--data", str(data), "--out", str(out), "--scale", "tiny", "--resamples", "20"]
    assert Command("reproduce").main(argv) == 0
    return (out / f"{name}.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "table1",
            [
                "vanilla",
                "+ SAAM",
                "SAP and SNCE",
                "mAP, paper (BoLD)",
                "| 0.2251",
                "6 clips that were held out",
            ],
        ),
        ("fig6", ["beta 0", "beta 100", "text to video R@5"]),
        ("table2", ["(positive sample)", "12.6 → -697"]),
        ("fig4", ["(positive sample)"]),
        ("table4", ["## table", "this model"]),
        ("fig5", ["| frame | layer 1 |", "the paper shows images only"]),
    ],
)
def test_a_table_or_figure(name: str, expected: list[str], data: Path, out: Path):
    page = made(name, data, out)
    assert all(text in page for text in expected), page
    assert "What a model of this scale learns means nothing." in page
    if name.startswith("fig"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_variant_is_trained_once_and_measured_once_on_the_same_data(data: Path, out: Path):
    plan = Plan(
        data / "shards", data / "held-out", "table", data / "table.csv", "tiny", out / "runs" / "tiny", 20
    )
    (row,) = train_and_measure(plan, [WHOLE])
    measured = plan.out / WHOLE.name / "measured.json"
    before = measured.stat().st_mtime_ns
    assert train_and_measure(plan, [WHOLE]) == [row]
    assert measured.stat().st_mtime_ns == before
    held_out = row["held_out"]
    assert 0 <= held_out["video_to_text_r@1"] <= held_out["video_to_text_r@5"] <= 1
    assert held_out["video_to_text_r@10"] == 1  # of six clips
    assert held_out["loss"] > 0
    (again,) = train_and_measure(replace(plan, held_out=None), [WHOLE])
    assert again["held_out"] == {}
    assert again["metrics"] == row["metrics"]
    measured.write_text("{")
    with pytest.raises(EmotionError, match=r"is corrupt .* delete it, to measure the variant again"):
        train_and_measure(plan, [WHOLE])
    measured.unlink()


@pytest.mark.slow
def test_a_training_that_was_interrupted_is_finished_before_it_is_measured(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plan = Plan(data / "shards", None, "table", data / "table.csv", "tiny", tmp_path, 20)
    train = Run.train
    with monkeypatch.context() as patch:
        patch.setattr(Run, "train", lambda run: train(run, max_steps=1))
        whole_model(plan)
    assert (tmp_path / WHOLE.name / "report.html").is_file()
    steps = 4  # two epochs of eight clips, four at a time
    assert load_checkpoint(whole_model(plan))["step"] == steps


def test_the_splits_of_a_table_are_read_as_the_table_is(tmp_path: Path):
    rows = ["split,path,label"]
    for split in ("train", "val", " test"):
        for label in ("dark", "bright"):
            Image.new("L", (64, 64)).save(tmp_path / f"{split.strip()}-{label}.png")
            rows.append(f"{split},{split.strip()}-{label}.png,{label}")
    (tmp_path / "table.csv").write_text("\n".join(rows), encoding="utf-8-sig")  # as Excel writes it
    protocol, _ = labelled_sets("table", tmp_path / "table.csv")
    assert protocol.measured == ("val", "test")


@pytest.mark.nightly
def test_table_3(data: Path, out: Path):
    page = made("table3", data, out)
    assert page.count("frames frozen") == 2  # metrics, and clips held out
    assert "| 0.1102 " in page


def test_variants_are_those_of_the_paper():
    configs = {v.name: config_of(v, "paper", None) for v in (*TABLE_1, *TABLE_3, *FIGURE_6)}
    assert configs["none-beta0"].model["subject"] == "none"
    assert configs["sap-beta10"].clips.beta == 10
    assert configs["sap-beta10"].start.clip == "laion2b_e16"
    assert configs["frozen-both"].start.text_encoder == configs["frozen-both"].start.frame_encoder == "frozen"
    assert configs["mean"].model["temporal"] == "mean"
    assert [config_of(v, "paper", None).clips.beta for v in FIGURE_6] == [0, 1, 10, 100]


def test_ranks_count_what_is_nearer():
    random = torch.Generator().manual_seed(0)
    one, other = (F.normalize(torch.randn(30, 8, generator=random), dim=1) for _ in range(2))
    expected = [sum(float(a @ b) > float(a @ other[i]) for b in other) for i, a in enumerate(one)]
    assert ranks_of_own(one, other).tolist() == expected


def test_missing_data_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for argv, text in (
        (["table1", "--data", str(tmp_path / "absent")], "absent: no such folder"),
        (["table1"], "no shards in it; expected shards of emotion-train prepare-data"),
        (["table4"], "none of the folders bold, moviegraphs, emotic, meld, liris is in it"),
        (["table1", "--checkpoint", "x.pt"], "table1 compares models that it trains"),
        (["table4", "--out", __file__], "cannot be created"),
    ):
        folders = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
        assert Command("reproduce").main([argv[0], *folders, *argv[1:]]) == 2
        assert text in capsys.readouterr().err


@pytest.mark.parametrize("name", ["table1", "table4"])
def test_a_mistake_in_the_labels_is_found_before_the_training(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "shards").mkdir()
    (tmp_path / "table.csv").write_text("path,mood,split\na.jpg,happy,train\n")
    out = tmp_path / "out"
    argv = [name, "--data", str(tmp_path), "--out", str(out), "--scale", "tiny"]
    assert Command("reproduce").main(argv) == 2
    assert "no column of labels or values" in capsys.readouterr().err
    assert not list(out.iterdir())
