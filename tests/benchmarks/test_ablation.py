"""The arithmetic of the ablation's table, on answers made up by hand."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_bench.ablation import comparisons, crowded, interval, load_results, write_results

SCENES = 60
Crowds = dict[str, dict[str, list[int]]]


def crowds(share_right: dict[str, float], seed: int, *, follows: bool) -> Crowds:
    """People whose answers are right at a given rate; without `follows` a scene has one answer for all."""
    found = {}
    for number, (name, people) in enumerate((("one person", 1), ("two people", 2), ("three or four", 3))):
        truth = np.random.default_rng(number)  # the same test scenes for every method and seed
        labels = truth.integers(0, 7, SCENES * people)
        scenes = np.repeat(np.arange(SCENES), people)
        rng = np.random.default_rng([seed, number])
        right = rng.random(len(labels)) < share_right[name]
        answers = np.where(right, labels, (labels + 1 + rng.integers(0, 6, len(labels))) % 7)
        if not follows:
            answers = answers.reshape(SCENES, people)[:, :1].repeat(people, axis=1).ravel()
        found[name] = {
            k: v.tolist() for k, v in (("labels", labels), ("answers", answers), ("scenes", scenes))
        }
    return found


def write_run(runs: Path, subject: str, bias: bool, crowds_: Crowds, *, seed: int = 0, **row: Any) -> None:
    described = {"subject": subject, "bias": bias, "beta": 1.0, "temporal": "transformer", "seed": seed} | row
    folder = runs / "-".join(map(str, described.values()))
    folder.mkdir(parents=True)
    (folder / "measured.json").write_text(json.dumps({"row": described, "crowds": crowds_}))


GOOD = {"one person": 0.7, "two people": 0.7, "three or four": 0.65}


def clear_scenes(run: Crowds, name: str) -> list[list[int]]:
    """Rows of the scenes whose people all feel differently."""
    found: dict[int, list[int]] = {}
    for row, scene in enumerate(run[name]["scenes"]):
        found.setdefault(scene, []).append(row)
    labels = run[name]["labels"]
    return [rows for rows in found.values() if len({labels[row] for row in rows}) == len(rows)]


def test_seeds_are_averaged_person_by_person_where_emotions_differ(tmp_path: Path):
    runs = [crowds(GOOD, seed, follows=True) for seed in (0, 1, 2)]
    for seed, run in enumerate(runs):
        write_run(tmp_path, "sap", True, run, seed=seed)
    results = load_results(tmp_path)["sap", True, 1.0, "transformer"]["two people"]
    kept = [row for rows in clear_scenes(runs[0], "two people") for row in rows]
    assert 60 < len(kept) < 2 * SCENES
    assert results.labels.tolist() == [runs[0]["two people"]["labels"][row] for row in kept]
    for place, row in enumerate(kept):
        hits = [run["two people"]["answers"][row] == run["two people"]["labels"][row] for run in runs]
        assert results.mean()[place] == pytest.approx(sum(hits) / 3)
        assert results.mean([2])[place] == hits[2]


def test_pairs_are_of_different_emotions_and_counted_by_hand(tmp_path: Path):
    run = crowds(GOOD, 3, follows=True)
    write_run(tmp_path, "sap", True, run)
    pairs = load_results(tmp_path)["sap", True, 1.0, "transformer"]["two people"].pairs
    two = run["two people"]
    changed, own, other = [], [], []
    for first, second in clear_scenes(run, "two people"):
        (a, b), (x, y) = ([two[key][row] for row in (first, second)] for key in ("labels", "answers"))
        changed.append(x != y)
        own.append(((x == a) + (y == b)) / 2)
        other.append(((x == b) + (y == a)) / 2)
    assert pairs["changed"].tolist() == changed
    assert pairs["own"].tolist() == own
    assert pairs["other"].tolist() == other


def test_a_model_without_the_subject_never_changes_its_prediction(tmp_path: Path):
    write_run(tmp_path, "none", False, crowds(GOOD, 1, follows=False))
    pairs = load_results(tmp_path)["none", False, 1.0, "transformer"]["two people"].pairs
    assert not pairs["changed"].any()
    assert pairs["own"].mean() == pytest.approx(pairs["other"].mean())


def test_intervals_are_over_scenes_and_not_over_persons():
    values = np.repeat(np.random.default_rng(0).random(100) < 0.5, 4).astype(float)  # all of a scene alike
    figure, low, high = interval(values, np.repeat(np.arange(100), 4))
    assert figure == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 10, rel=0.15)  # of 100 independent draws


def test_differences_are_paired_by_scene_and_seed(tmp_path: Path):
    good = crowds(GOOD, 0, follows=True)
    for seed in (0, 1):  # only seed 0 is there of both
        write_run(tmp_path, "sap", True, crowds(GOOD, seed, follows=True), seed=seed)
    write_run(tmp_path, "shared", True, good)
    write_run(tmp_path, "none", False, crowds(GOOD, 1, follows=False))
    found = load_results(tmp_path)
    rows = {row["expectation"]: row for row in comparisons(found, 1.0)}
    row = rows["sap with bias beats none by 5 points and more"]
    one, other = (
        crowded(found[method], [0])[0].mean()
        for method in (("sap", True, 1.0, "transformer"), ("none", False, 1.0, "transformer"))
    )
    gap, low, high = row["difference"]
    assert gap == pytest.approx(one - other)
    assert row["by_seed"] == pytest.approx([one - other])
    assert low < gap < high
    assert row["holds"] == "yes"
    same = rows["shared is within 1 point of sap, both with bias"]
    assert (same["difference"], same["holds"]) == ((0, 0, 0), "yes")
    assert "saam is better than none" not in rows  # was not measured
    write_run(tmp_path, "saam", False, good, seed=2)  # a seed that nothing else has
    rows = {row["expectation"]: row for row in comparisons(load_results(tmp_path), 1.0)}
    assert "saam is better than none" not in rows


def test_an_interval_on_both_sides_is_undecided_and_one_below_is_no(tmp_path: Path):
    write_run(tmp_path, "none", False, crowds(GOOD, 1, follows=True))
    write_run(tmp_path, "saam", False, crowds(GOOD, 2, follows=True))  # as good, other people right
    worse = dict.fromkeys(GOOD, 0.3)
    write_run(tmp_path, "sap", False, crowds(worse, 2, follows=True))
    rows = {row["expectation"]: row["holds"] for row in comparisons(load_results(tmp_path), 1.0)}
    assert rows["saam is better than none"] == "undecided"
    assert rows["sap without bias is better than none"] == "no"


def test_table_and_plot_show_every_row(tmp_path: Path):
    runs, results = tmp_path / "runs", tmp_path / "results"
    for subject, bias in (("none", False), ("sap", True), ("shared", True)):
        write_run(runs, subject, bias, crowds(GOOD, 0, follows=bias))
    write_run(runs, "sap", True, crowds(GOOD, 5, follows=True), beta=0.0)
    write_results(runs, results, settings={"steps": 7, "warm_steps": 9}, beta=1.0)
    page = (results / "ablation.md").read_text()
    assert "bench_ablation.py --steps 7 --warm-steps 9\n" in page
    assert "only a part of the attention.\n" in page  # no row with masking, no share of it
    assert len(re.findall(r"\n\| sap \+ bias +\|", page)) == 2
    assert "| InfoNCE " in page
    assert (results / "ablation.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((results / "ablation.json").read_text())
    assert [row["subject"] for row in written["rows"]] == ["none", "sap", "sap", "shared"]
    assert written["machine"]["cores"] >= 1
