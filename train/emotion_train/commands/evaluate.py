r"""Measure a fitted head, or classes given as text, on a labelled data set; nothing is fitted.

    emotion-train evaluate --probe runs/meld --dataset meld --data MELD.Raw \
        --checkpoint emotionclip.pt --splits test
    emotion-train evaluate --zero-shot --dataset meld --data MELD.Raw \
        --checkpoint emotionclip.pt --out runs/bank
    emotion-train evaluate --zero-shot --labels moods.txt --checkpoint emotionclip.pt --out runs/moods

--zero-shot builds a head from text embeddings of prompts and saves it as zero_shot in --out, where
`emotion-export onnx --probe` finds it; with --probe it measures the zero-shot head of that folder instead.
Without --dataset the head is built and not measured.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from emotion_runtime.bundle import sha256_of
from emotion_runtime.console import OneLineParser
from emotion_runtime.errors import EmotionError
from emotion_train.commands.probe_options import add_options, read_options
from emotion_train.datasets.base import Task
from emotion_train.heads import AFFECT_PROBE, PROBE, ZERO_SHOT, LinearHead, load_head, save_head
from emotion_train.language.phrases import Phrases, canonical, load_phrases, phrases_for
from emotion_train.pretrained import Checkpoint, read_checkpoint
from emotion_train.probing.cards import OTHER_VALUES, as_task_head, card_metrics, head_name
from emotion_train.probing.features import FeatureKind
from emotion_train.probing.fit import TaskHead
from emotion_train.probing.measure import MeasureOptions
from emotion_train.probing.options import ProbeSetup, describe, open_setup
from emotion_train.probing.report import ProbeReport, summary_lines, write_report
from emotion_train.probing.run import measure_heads
from emotion_train.probing.zero_shot import check_tower, zero_shot_head

_log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    check_options(args)
    if args.dataset is None:
        build_unmeasured_head(args)
    else:
        print("\n".join(summary_lines(evaluate(args))))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog="emotion-train evaluate", description=__doc__.splitlines()[0])
    add_options(parser, required=False)
    parser.add_argument("--probe", type=Path, metavar="DIR", help="folder of the heads to measure")
    parser.add_argument(
        "--zero-shot", action="store_true", help="predict classes from text instead of with a fitted head"
    )
    parser.add_argument(
        "--labels",
        metavar="SET",
        help="labels of a zero-shot head: ekman, bold, or a text file with lines `label: phrase; phrase` "
        "(default: those of the data set)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the report and the zero-shot head"
    )
    return parser


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        EmotionError: An option is missing, or excludes another one.
    """
    if args.probe is None and not args.zero_shot:
        raise EmotionError("nothing to measure: give --probe DIR, --zero-shot, or both")
    if args.labels and (args.probe or not args.zero_shot):
        raise EmotionError(
            "--labels names the classes of a new zero-shot head: use it with --zero-shot and without --probe"
        )
    if args.dataset is None and (args.probe or not args.labels or args.out is None):
        raise EmotionError(
            "--dataset is missing: give --dataset and --data, or build a zero-shot head without measuring "
            "it: --zero-shot --labels SET --out DIR"
        )
    if args.dataset is not None and args.data is None:
        raise EmotionError("--data is missing: expected the folder of the data set, or the file of a table")


def build_unmeasured_head(args: argparse.Namespace) -> None:
    """Build and save a zero-shot head for any labels."""
    checkpoint = read_checkpoint(args.checkpoint)
    head = zero_shot_head(checkpoint.model, checkpoint.sha256, {}, phrases=load_phrases(args.labels))
    save_head(args.out, ZERO_SHOT, head)
    _log.info(
        "wrote a zero-shot head of %d labels to %s; it is not measured", len(head.card.labels), args.out
    )


def evaluate(args: argparse.Namespace) -> ProbeReport:
    """Measure heads, write the report if --out is given, and return it."""
    shared = read_options(args)
    if args.probe and not shared.features:
        shared = replace(shared, features=_feature_kind(args))
    setup = open_setup(shared)
    bank = None
    if args.zero_shot:
        task, bank = zero_shot_task(setup, args)
        heads: list[TaskHead] = [as_task_head(bank, task)]
    else:
        heads = probe_heads(setup, args)
    sets = [setup.load_set(name, args.seed) for name in setup.protocol.measured]
    options = MeasureOptions(args.seed, args.resamples, setup.protocol.smoothed)
    measured = measure_heads(heads, sets, options, prefix="zero_shot_" if args.zero_shot else "")
    about = describe(setup, shared) | {"head": "text embeddings" if args.zero_shot else "fitted before"}
    report = ProbeReport(args.dataset, about, measured, {part.name: part.skipped for part in sets}, {}, {})
    if args.out is not None:
        if bank is not None and not args.probe:
            metrics = card_metrics(measured, heads[0].task)
            card = msgspec.structs.replace(bank.card, metrics=metrics, dataset=args.dataset)
            save_head(args.out, ZERO_SHOT, replace(bank, card=card))
        write_report(args.out, report, "zero_shot_evaluation" if args.zero_shot else "evaluation")
    return report


def probe_heads(setup: ProbeSetup, args: argparse.Namespace) -> list[TaskHead]:
    """Return the fitted heads of a folder for the tasks of the data set.

    Raises:
        EmotionError: There is none, or one was fitted on another checkpoint or other features or labels.
    """
    heads = []
    for task in setup.tasks:
        name = head_name(task)
        if not (args.probe / f"{name}.json").is_file():
            _log.info("task %s is not measured: %s has no head %s", task.name, args.probe, name)
            continue
        head = load_head(args.probe, name)
        _check_features(head, setup.checkpoint, setup.encoding.kind, args.probe / name)
        own = _fitted_on_this(head, args)
        fit, tune = (setup.protocol.fit, setup.protocol.tune) if own else (None, None)
        heads.append(as_task_head(head, task, fitted_on=fit, tuned_on=tune))
    if not heads:
        names = ", ".join(dict.fromkeys(head_name(task) for task in setup.tasks))
        raise EmotionError(
            f"{args.probe} has no head for {args.dataset}: expected {names} written by emotion-train "
            "fit-probe"
        )
    return heads


def _fitted_on_this(head: LinearHead, args: argparse.Namespace) -> bool:
    """Return whether a head was fitted on the given data set. Every table is a data set of its own."""
    if head.card.dataset != args.dataset:
        return False
    # Cards that do not have the hash yet are taken for those of this table, as the cautious reading.
    return args.dataset != "table" or head.card.table_sha256 in (None, sha256_of(args.data))


def zero_shot_task(setup: ProbeSetup, args: argparse.Namespace) -> tuple[Task, LinearHead]:
    """Return the classification task of the data set and a zero-shot head for it, built or read.

    Raises:
        EmotionError: The data set has no classes, or the head has other labels or another text tower.
    """
    tasks = [task for task in setup.tasks if task.kind != "regression"]
    for task in setup.tasks:
        if task.kind == "regression":
            _log.info("task %s is not measured: zero-shot heads predict classes, not values", task.name)
    if not tasks:
        raise EmotionError(f"{args.dataset} has only values to predict: zero-shot needs classes")
    task, checkpoint = tasks[0], setup.checkpoint
    if args.probe:
        bank = load_head(args.probe, ZERO_SHOT)
        check_tower(bank, checkpoint.model)
        return task, bank
    phrases = _in_order(task, load_phrases(args.labels)) if args.labels else phrases_for(task.labels)
    return task, zero_shot_head(checkpoint.model, checkpoint.sha256, {}, phrases=phrases)


def _in_order(task: Task, phrases: Phrases) -> Phrases:
    """Return phrases under the task's own label names, in its order."""
    given = {canonical(label): variants for label, variants in phrases.items()}
    wanted = {canonical(label): label for label in task.labels}
    missing, unknown = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or unknown:
        raise EmotionError(
            f"--labels differ from the labels of the data set: missing {', '.join(missing) or 'none'}; "
            f"unknown {', '.join(unknown) or 'none'}; expected {', '.join(task.labels)}"
        )
    return {label: given[name] for name, label in wanted.items()}


def _feature_kind(args: argparse.Namespace) -> FeatureKind | None:
    """Return the kind of features that the heads of the folder read; None if there is no head."""
    names = [ZERO_SHOT] if args.zero_shot else [PROBE, AFFECT_PROBE, OTHER_VALUES]
    kinds = [load_head(args.probe, n).card.features for n in names if (args.probe / f"{n}.json").is_file()]
    return kinds[0] if kinds else None


def _check_features(head: LinearHead, checkpoint: Checkpoint, kind: str, what: Path) -> None:
    card, dim = head.card, checkpoint.model.config.embed_dim
    if card.checkpoint_sha256 != checkpoint.sha256 or card.features != kind or head.weight.shape[1] != dim:
        raise EmotionError(
            f"head {what} was fitted on {card.features} features of checkpoint "
            f"{card.checkpoint_sha256[:12]}..., these are {kind} features of {checkpoint.sha256[:12]}...: "
            "use its own checkpoint, or fit again"
        )
