"""The results that only rendered scenes have: pairs of people, and the zero-shot heads."""

from dataclasses import replace

import msgspec
import numpy as np

from emotion_runtime.bundle import Bundle
from emotion_runtime.heads import load_head
from emotion_train.heads import CATEGORIES, PROBE, ZERO_SHOT, HeadCard, LinearHead
from emotion_train.language.phrases import CATEGORY_PHRASES
from emotion_train.probing import scene_probe as scenes
from emotion_train.probing.cards import as_task_head, card_metrics
from emotion_train.probing.measure import HeadResult, MeasureOptions, measure
from emotion_train.probing.options import ProbeSetup
from emotion_train.probing.quality_limits import measure_limits
from emotion_train.probing.report import ProbeReport
from emotion_train.probing.run import ProtocolResult
from emotion_train.probing.zero_shot import zero_shot_head


def with_scenes(
    report: ProbeReport,
    heads: dict[str, LinearHead],
    result: ProtocolResult,
    setup: ProbeSetup,
    options: MeasureOptions,
) -> tuple[ProbeReport, dict[str, LinearHead]]:
    """Add pairs of people, the limits of quality, and the zero-shot heads of 7 classes and 26 categories."""
    if setup.plan is None:
        raise ValueError("only scenes have a plan")
    pairs = scenes.measure_pairs(result.heads[0], setup.plan, setup.encoding, options.seed, options)
    changed = {f"{name}_changed": metrics["changed"] for name, (metrics, _) in pairs.items()}
    limits = measure_limits(
        setup.encoding.encoder,
        result.heads[0].predictions,
        scenes.chosen_faces(setup.plan, "val", options.seed),
        seed=options.seed,
    )
    probe = _with_metrics(heads[PROBE], heads[PROBE].card.metrics | changed)
    heads = heads | {PROBE: replace(probe, card=msgspec.structs.replace(probe.card, quality=limits))}
    one_person = setup.load_set("one_person", options.seed)
    all_results: tuple[HeadResult, ...] = tuple(report.measured)
    for name, bank in _banks(setup).items():
        if name == ZERO_SHOT:
            task_head = as_task_head(bank, scenes.TASK)
            (measured,) = measure(task_head, one_person, "zero_shot_one_person", options)
            all_results = (*all_results, measured)
            metrics = card_metrics([measured], scenes.TASK)
        else:
            metrics = scenes.category_metrics(bank.weight, one_person)
        heads[name] = _with_metrics(bank, metrics)
    return replace(report, measured=all_results, extras=pairs), heads


def _banks(setup: ProbeSetup) -> dict[str, LinearHead]:
    """Return the zero-shot heads: of the text tower of a checkpoint, or those that a bundle has."""
    if not isinstance(setup.model, Bundle):
        model, sha256 = setup.model.model, setup.model.sha256
        return {
            ZERO_SHOT: zero_shot_head(model, sha256, {}, dataset="scenes"),
            CATEGORIES: zero_shot_head(
                model, sha256, {}, phrases=CATEGORY_PHRASES, dataset="scenes", experimental=True
            ),
        }
    expected = {ZERO_SHOT: list(scenes.TASK.labels), CATEGORIES: list(CATEGORY_PHRASES)}
    return {
        name: _bank(setup.model, name)
        for name, labels in expected.items()
        if name in setup.model.manifest.heads and setup.model.manifest.heads[name].labels == labels
    }


def _bank(bundle: Bundle, name: str) -> LinearHead:
    stored, described = load_head(bundle, name), bundle.manifest.heads[name]
    card = HeadCard(
        kind=described.kind,
        labels=described.labels,
        activation=described.activation,
        temperature=described.temperature,
        metrics={},
        checkpoint_sha256=bundle.manifest.checkpoint_sha256,
        dataset="scenes",
        abstain=described.abstain,
        experimental=described.experimental,
    )
    return LinearHead(stored.weight, np.asarray(stored.bias, np.float32), card)


def _with_metrics(head: LinearHead, metrics: dict[str, float]) -> LinearHead:
    return replace(head, card=msgspec.structs.replace(head.card, metrics=metrics))
