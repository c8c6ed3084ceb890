"""Choose the limits of swaps by what was counted in composed scenes."""

from collections.abc import Mapping, Sequence
from typing import Any

from emotion_bench.identity_runs import Tally
from emotion_runtime.manifest import SwapLimits

CONTINUOUS = "continuous"  # the kind of scene in which nobody takes anybody's place
FILMED = "swaps of filmed people"  # whose labels may be the same, so only the ids count
# Fractions of frames, seconds, and false resets per person-minute. "right" is the least, the others the most.
TARGETS = {"wrong": 0.05, "right": 0.6, "first_label_s": 0.8, "false_resets_per_minute": 0.2}


def summary(kinds: Mapping[str, Tally]) -> dict[str, float]:
    """Return the values that have targets; the 95th percentile of the times to the first right label."""
    changing = sum((tally for kind, tally in kinds.items() if kind not in (CONTINUOUS, FILMED)), Tally())
    alternating = kinds["cuts in one room"] + kinds["cuts between rooms"]
    return {
        "wrong": changing.wrong_rate,
        "right": alternating.right_rate,
        "first_label_s": changing.first_label(95) or 0.0,
        "false_resets_per_minute": kinds[CONTINUOUS].extra_rate,
    }


def missed(values: Mapping[str, float]) -> list[str]:
    """Return which of the targets are missed."""
    return [
        name
        for name, value in values.items()
        if (value < TARGETS[name] if name == "right" else value > TARGETS[name])
    ]


def choose(results: Sequence[tuple[SwapLimits | None, Mapping[str, Tally]]]) -> SwapLimits:
    """Return the limits that miss the fewest targets; false resets weigh most, then wrong labels.

    Among equals, those are chosen with which the fewest swaps of filmed people go unnoticed.
    """

    def order(result: tuple[SwapLimits | None, Mapping[str, Tally]]) -> tuple[Any, ...]:
        values = summary(result[1])
        lost = missed(values)
        return (
            "false_resets_per_minute" in lost,
            "wrong" in lost,
            len(lost),
            values["false_resets_per_minute"],
            result[1][FILMED].unnoticed,
            values["wrong"],
        )

    limits = min(results, key=order)[0]
    assert limits is not None  # noqa: S101 - the grid has no None
    return limits


def outcome(limits: SwapLimits | None, kinds: Mapping[str, Tally]) -> dict[str, Any]:
    """Return the results of some limits in the form of the JSON file."""
    values = summary(kinds)
    return {
        "limits": None if limits is None else {"always": limits.always, "suspicious": limits.suspicious},
        **{name: round(value, 4) for name, value in values.items()},
        "missed": missed(values),
        "kinds": {kind: row(tally) for kind, tally in kinds.items()},
    }


def row(tally: Tally) -> dict[str, Any]:
    """Return a tally as fractions and rates."""
    median, p95 = tally.first_label(50), tally.first_label(95)
    return {
        "person_minutes": round(tally.minutes, 2),
        "right": round(tally.right_rate, 4),
        "wrong": round(tally.wrong_rate, 4),
        "changes": tally.changes,
        "unnoticed": tally.unnoticed,
        "without_right_label": tally.changes - len(tally.first_labels),
        "first_label_s_median": None if median is None else round(median, 2),
        "first_label_s_p95": None if p95 is None else round(p95, 2),
        "extra_ids": tally.extra_ids,
        "extra_ids_per_minute": round(tally.extra_rate, 3),
    }
