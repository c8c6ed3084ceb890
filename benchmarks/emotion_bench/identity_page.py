"""Write the results of bench_identity.py as Markdown."""

from collections.abc import Mapping
from typing import Any

from emotion_bench.identity_choice import CONTINUOUS, FILMED
from emotion_train.tables import markdown_table, percent

_KINDS = (
    "scene",
    "person-minutes",
    "right, of all frames",
    "wrong, from 0.4 s after a change",
    "changes not noticed",
    "seconds to the first right label, median and 95 %",
    "changes without one",
    "ids too many per person-minute",
)
_TARGETS = (
    "limits (always, suspicious)",
    "wrong",
    "right in cuts",
    "first label, 95 %",
    "false resets",
    "missed",
)

_CONDITIONS = """\
Composed scenes at 25 frames per second, of {people}. The filmed people are seen for {seconds} seconds in sum,
shown forwards and backwards, so the continuous scenes show the same seconds at other sizes and brightness. A
wrong label is one that the person never has alone. False resets are new ids of people who stayed, per
person-minute of the continuous scenes. In the swaps of filmed people both may have the same label, so only
the ids count there, and among equally good limits those are chosen that notice the most of these swaps."""
_AIMS = """\
Targets: wrong at most {wrong}, right in cuts at least {right}, the first right label within {first} s (95th
percentile), at most {false} false resets per person and minute. After some changes the person gets no right
label before the next one: the percentiles are of the others."""


def page(result: Mapping[str, Any]) -> str:
    """Return the report."""
    targets = result["targets"]
    people = " and ".join(
        f"{each['filmed']} filmed people and {each['faces']} faces for {half}"
        for half, each in result["people"].items()
    )
    parts = [
        "# Keeping people apart",
        _CONDITIONS.format(people=people, seconds=result["filmed_seconds"]),
        _AIMS.format(
            wrong=percent(targets["wrong"], 0),
            right=percent(targets["right"], 0),
            first=targets["first_label_s"],
            false=targets["false_resets_per_minute"],
        ),
        "## Measured",
        _summary(result["reporting"]),
    ]
    for each in result["reporting"]:
        parts += [f"### Limits {_limits(each['limits'])}", _by_kind(each["kinds"])]
    parts += [
        "## Videos as they are, with the face detector",
        markdown_table(
            ["video", "person-minutes", "ids", "false resets"],
            [
                [each["source"], f"{each['person_minutes']:.2f}", str(each["ids"]), str(each["false_resets"])]
                for each in result["clips"]
            ],
        ),
        "## Limits to choose from, on the other half of the people",
        _summary(result["choosing"]),
    ]
    return "\n\n".join(parts) + "\n"


def _limits(limits: Mapping[str, float] | None) -> str:
    return "none" if limits is None else f"{limits['always']:g}, {limits['suspicious']:g}"


def _summary(outcomes: list[Mapping[str, Any]]) -> str:
    return markdown_table(
        _TARGETS,
        [
            [
                _limits(each["limits"]),
                percent(each["wrong"]),
                percent(each["right"], 0),
                f"{each['first_label_s']:.2f} s",
                f"{each['false_resets_per_minute']:.2f}",
                ", ".join(name.split("_")[0] for name in each["missed"]) or "none",
            ]
            for each in outcomes
        ],
    )


def _by_kind(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for kind, each in kinds.items():
        times = [each["first_label_s_median"], each["first_label_s_p95"]]
        rows.append(
            [
                kind,
                f"{each['person_minutes']:.1f}",
                "-" if kind == FILMED else percent(each["right"], 0),
                "-" if kind in (CONTINUOUS, FILMED) else percent(each["wrong"]),
                f"{each['unnoticed']} of {each['changes']}" if each["changes"] else "-",
                "-" if None in times else f"{times[0]:.2f}, {times[1]:.2f}",
                str(each["without_right_label"]) if each["changes"] else "-",
                f"{each['extra_ids_per_minute']:.2f}",
            ]
        )
    return markdown_table(_KINDS, rows)
