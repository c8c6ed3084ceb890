r"""Fit a linear probe on a checkpoint's frozen video features and say what it is worth on unseen data.

    python train/fit_probe.py --dataset scenes --data ../shared \
        --checkpoint runs/nano/checkpoint.pt --out runs/nano/probe

Writes into --out: report.json, and the heads probe and zero_shot (NAME.safetensors, NAME.json), which
export/to_onnx.py --probe takes.
Fitted on scenes of training faces, tuned on validation faces, measured on test faces.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import model_from_checkpoint
from emotion_train.data.faces import load_faces
from emotion_train.data.labels import EKMAN
from emotion_train.data.scene_sets import Clip, pair_clips, person_clips
from emotion_train.heads import HeadCard, LinearHead, save_head, zero_shot_head
from emotion_train.model import EmotionCLIP
from emotion_train.probe import (
    FeatureSet,
    extract,
    fit_logistic,
    fit_temperature,
    probabilities,
    score,
    swap_figures,
)

C_GRID = (0.1, 0.3, 1.0, 3.16, 10.0, 31.6)


@dataclass(frozen=True)
class Sets:
    """Features of every set that a probe is fitted, tuned and measured on."""

    train: FeatureSet
    val: FeatureSet
    one: FeatureSet
    group: FeatureSet


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, choices=["scenes"])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds data/fer2013.npz")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=8, help="frames encoded of each test clip (of 8)")
    parser.add_argument(
        "--train-faces", type=int, default=12000, help="training clips the probe is fitted on"
    )
    parser.add_argument("--test-faces", type=int, help="use only N random validation and test faces")
    parser.add_argument("--seed", type=int, default=2022)
    args = parser.parse_args(argv)
    try:
        report = fit(args)
    except EmotionError as error:
        print(f"fit_probe: error: {error}", file=sys.stderr)
        return 2
    print_report(report)
    return 0


def fit(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Fit, measure, write; returns the report."""
    for name in ("frames", "train_faces", "test_faces"):
        if (number := getattr(args, name)) is not None and number < 1:
            raise EmotionError(f"--{name.replace('_', '-')} {number}: expected 1 or more")
    model = model_from_checkpoint(args.checkpoint)
    spec = model.config.preprocess
    archive = args.data / "data" / "fer2013.npz"
    faces = {split: load_faces(archive, split) for split in ("train", "val", "test")}
    limits = {"train": args.train_faces, "val": args.test_faces, "test": args.test_faces}
    for split, limit in limits.items():
        order = np.random.default_rng(args.seed).permutation(len(faces[split].labels))
        faces[split] = faces[split].take(order[:limit])

    def features(split: str, people: tuple[int, ...], frames: int, seed: int) -> FeatureSet:
        clips = person_clips(faces[split], spec, people, frames=frames, seed=seed)
        name = f"{split}, {'-'.join(map(str, people))} people"
        return extract(model, tqdm(clips, total=len(faces[split].labels), desc=name, unit="clip"))

    sets = Sets(
        features("train", (1, 2, 3), 1, args.seed),
        features("val", (1, 2, 3), 2, args.seed + 1),
        features("test", (1,), args.frames, args.seed + 2),
        features("test", (2, 3), args.frames, args.seed + 3),
    )
    weight, bias, temperature = tune(sets, args.seed)
    report = {
        "one_person": score(probabilities(sets.one.features @ weight.T + bias, temperature), sets.one.labels),
        "two_or_three": score(
            probabilities(sets.group.features @ weight.T + bias, temperature), sets.group.labels
        ),
    }
    for name, same in (("pairs_same_window", True), ("pairs_own_window", False)):
        pairs = list(
            pair_clips(faces["test"], spec, frames=args.frames, seed=args.seed + 4, same_window=same)
        )
        report[name] = measure_pairs(model, pairs, weight, bias)
    sha256 = hashlib.sha256(args.checkpoint.read_bytes()).hexdigest()
    bank = zero_shot_head(model, sha256, {})
    similarity = probabilities(sets.one.features @ bank.weight.T, bank.card.temperature)
    report["zero_shot_one_person"] = score(similarity, sets.one.labels)
    metrics = card_metrics(report, ("one_person", "two_or_three")) | {
        f"{key}_changed": report[key]["changed"] for key in ("pairs_same_window", "pairs_own_window")
    }
    card = HeadCard("probe", list(EKMAN), "softmax", temperature, metrics, sha256)
    save_head(args.out, "probe", LinearHead(weight, bias, card))
    save_head(
        args.out, "zero_shot", zero_shot_head(model, sha256, card_metrics(report, ("zero_shot_one_person",)))
    )
    (args.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def card_metrics(report: dict[str, dict[str, float]], keys: tuple[str, ...]) -> dict[str, float]:
    """The three figures of each set that a head's card carries."""
    return {
        f"{key}_{figure}": report[key][figure]
        for key in keys
        for figure in ("accuracy", "balanced_accuracy", "ece")
    }


def tune(sets: Sets, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Weight, bias, temperature: regularisation by validation accuracy, temperature by likelihood."""
    best = (-1.0, np.empty(0), np.empty(0))
    for c in C_GRID:
        weight, bias = fit_logistic(sets.train, c=c, seed=seed)
        accuracy = float(((sets.val.features @ weight.T + bias).argmax(1) == sets.val.labels).mean())
        print(f"fit_probe: C {c}: validation accuracy {accuracy:.3f}")
        best = max(best, (accuracy, weight, bias), key=lambda entry: entry[0])
    _, weight, bias = best
    return weight, bias, fit_temperature(sets.val.features @ weight.T + bias, sets.val.labels)


def measure_pairs(
    model: EmotionCLIP, pairs: list[tuple[Clip, Clip]], weight: np.ndarray, bias: np.ndarray
) -> dict[str, float]:
    """Swap figures, with the number of pairs."""
    first, second = (extract(model, (pair[i] for pair in pairs)) for i in (0, 1))
    answers = [(s.features @ weight.T + bias).argmax(axis=1) for s in (first, second)]
    return {"pairs": len(pairs), **swap_figures(answers[0], answers[1], first.labels, second.labels)}


def print_report(report: dict[str, dict[str, float]]) -> None:
    """One line a set."""
    for name, figures in report.items():
        print(f"{name:22s}", "  ".join(f"{key} {value:.3f}" for key, value in figures.items()))


if __name__ == "__main__":
    sys.exit(main())
