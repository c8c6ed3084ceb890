"""Accuracy in words: the figures, the bars they are held against, and how to read them."""

from collections.abc import Iterator
from typing import Any

from emotion_bench.report import markdown

Result = dict[str, Any]

SETS = {
    "scenes": "rendered scenes of 1-4 people",
    "tight_faces": "tight faces as one-person pictures",
    "poor_scenes": "rendered scenes of 1-4 people under poor conditions",
    "scenes_fp16": "rendered scenes of 1-4 people, fp16",
    "scenes_int8": "rendered scenes of 1-4 people, int8",
}

_PAGE = """# What `{bundle}` knows

    python benchmarks/bench_accuracy.py --bundle {bundle} --data DIR --videos VIDEO ...

Seven emotions on {faces} test faces of FER2013, which no training and no tuning ever saw, through the
bundle's ONNX graphs. 95 % bootstrap intervals over faces. Guessing gives 14.3 %, always answering the largest
class 24.3 %; the labels are noisy, people reach about 65 % (Goodfellow et al. 2013).

The scenes are rendered: faces of FER2013 on drawn bodies and backgrounds.

{sets}

## Against what was asked for

{bars}

## Who is taken for whom, and what a probability is worth

![Confusion matrix](confusion.png) ![Reliability](reliability.png)

Labels less probable than {threshold:.3f} are not given (the threshold was fitted on validation faces):
{answered} of the answers remain, {right} of them right, of the others {rest}.

## Two people of different emotions in one picture

{pairs} pairs; {singly} of them are answered rightly when each person is there alone ({alone} of the answers).
"changed": the two answers differ.

{pair_table}

## One thing wrong at a time

The same people, alone, standing still, with a face of 80 px, before a plain camera: {clean}. Mean drop
{drop:.1f} points.

{corruptions}

## A window for each person, or one picture for all

The frame encoder's time on this machine, of the encoder alone. One picture is the square around all heads;
"in it" are people of whom at least half of the head is.

{windows}

## The whole runtime

{persons} people of {subset} test faces in scenes of one and two, frame by frame: the detector found {found}
of them where they are, and {whole} of the answers to these are right.

Changes of label on real people, a person and minute, at the default smoothing ("raw": the likeliest label of
each clip alone):

{changes}

## The 26 categories (experimental)

Zero-shot, fitted on nothing. Of six of the 26 there are labelled faces here; the area under the ROC on them,
0.5 being chance. **The other 20 are unmeasured.**

{categories}
"""


def page(result: Result) -> str:
    """accuracy.md."""
    pairs, corruptions, abstaining = result["pairs"], result["corruptions"], result["abstaining"]
    whole = result["through_runtime"]
    rest = abstaining["accuracy_of_the_rest"]
    return _PAGE.format(
        bundle=result["bundle"]["name"],
        faces=result["test_faces"],
        sets=_sets(result),
        bars=markdown(("what", "bar", "moonshot", "measured", ""), list(bars(result))),
        threshold=abstaining["threshold"],
        answered=percent(abstaining["answered"]),
        right=percent(abstaining["accuracy_of_answered"]),
        rest="none" if rest is None else percent(rest),
        pairs=pairs["pairs"],
        singly=pairs["right_singly"],
        alone=percent(pairs["accuracy_alone"]),
        pair_table=_pairs(pairs),
        clean=percent(corruptions["clean"]),
        drop=corruptions["mean_drop_points"],
        corruptions=markdown(
            ("", "accuracy", "drop, points"),
            [
                (name, percent(value), f"{100 * (corruptions['clean'] - value):.1f}")
                for name, value in corruptions["rows"].items()
            ],
        ),
        windows=_windows(result["windows"]),
        persons=whole["persons"],
        subset=min(300, result["test_faces"]),
        found=percent(whole["found"]),
        whole=percent(whole["accuracy"]),
        changes=markdown(
            ("video", "person minutes", "raw", "shown"),
            [
                (
                    name,
                    f"{row['person_minutes']:.2f}",
                    f"{row['raw_changes']:.1f}",
                    f"{row['label_changes']:.1f}",
                )
                for name, row in result["label_changes"].items()
            ]
            or [("none given", "", "", "")],
        ),
        categories=markdown(
            ("category", "AUC"),
            [(name, f"{value:.3f}") for name, value in result.get("categories_auc", {}).items()],
        ),
    )


def bars(result: Result) -> Iterator[tuple[str, str, str, str, str]]:
    """What was asked for, at least and at best, and what came of it."""
    sets, pairs = result["sets"], result["pairs"]
    for name, least, best in (
        ("scenes", (0.60, 0.55), (0.68, 0.63)),
        ("tight_faces", (0.62, 0.57), (0.70, 0.65)),
    ):
        found = [sets[name][figure]["value"] for figure in ("accuracy", "balanced_accuracy")]
        met = all(value >= bar for value, bar in zip(found, least, strict=True))
        yield f"{SETS[name]}: accuracy / balanced", _two(least), _two(best), _two(found), _verdict(met)
    lost = 100 * (pairs["accuracy_alone"] - pairs["own_window"]["own"]["value"])
    yield (
        "pairs: points lost to being two",
        "<= 2",
        "<= 1",
        f"{lost:.1f}",
        _verdict(lost <= 2),
    )
    for name, title in (("own_window", "as the runtime sees them"), ("same_window", "in one picture")):
        changed = pairs[name]["of_right_singly"]["changed"]["value"]
        yield (
            f"pairs right singly, {title}: answers that change",
            ">= 85 %",
            "",
            percent(changed),
            _verdict(changed >= 0.85),
        )
    ece = sets["scenes"]["ece"]["value"]
    yield "calibration error, 15 bins", "<= 0.05", "<= 0.03", f"{ece:.3f}", _verdict(ece <= 0.05)
    drop = result["corruptions"]["mean_drop_points"]
    yield "corruptions: mean drop, points", "<= 12", "<= 7", f"{drop:.1f}", _verdict(drop <= 12)
    size = result["bundle"]["bytes"]
    yield "bundle in fp32, MB", "<= 20", "", f"{size['fp32'] / 1e6:.1f}", _verdict(size["fp32"] <= 20e6)
    if "int8" in size and "scenes_int8" in sets:
        points = 100 * (sets["scenes"]["accuracy"]["value"] - sets["scenes_int8"]["accuracy"]["value"])
        yield "int8: accuracy lost, points", "<= 1", "<= 0.5", f"{points:.1f}", _verdict(points <= 1)
        yield "bundle in int8, MB", "<= 6", "", f"{size['int8'] / 1e6:.1f}", _verdict(size["int8"] <= 6e6)
    if changes := result["label_changes"]:
        minutes = sum(row["person_minutes"] for row in changes.values())
        mean = sum(row["label_changes"] * row["person_minutes"] for row in changes.values()) / minutes
        yield "label changes a minute and person", "<= 6", "", f"{mean:.1f}", _verdict(mean <= 6)


def percent(share: float) -> str:
    """0.4567 -> 45.7 %."""
    return f"{100 * share:.1f} %"


def _sets(result: Result) -> str:
    rows = [(title, result["sets"][name]) for name, title in SETS.items() if name in result["sets"]]
    if "zero_shot" in result:
        rows.insert(1, ("rendered scenes of 1-4 people, zero-shot", result["zero_shot"]))
    if "peer" in result:
        peer = result["peer"]
        rows += [
            (f"`{peer['name']}` on {part.replace('_', ' ')}", peer[part])
            for part in ("tight_faces", "scenes")
        ]
    lines = [
        (
            title,
            *(_between(row[figure]) for figure in ("accuracy", "balanced_accuracy")),
            f"{row['ece']['value']:.3f}",
        )
        for title, row in rows
    ]
    scenes = result["sets"]["scenes"]
    people = ", ".join(f"{n}: {percent(value)}" for n, value in result["by_people"].items())
    recalls = ", ".join(
        f"{name} {percent(scenes[f'recall_{name}']['value'])}"
        for name in result["labels"]
        if f"recall_{name}" in scenes  # of a few faces none may be of a class
    )
    table = markdown(("", "accuracy", "balanced accuracy", "calibration error"), lines)
    return f"{table}\n\nBy number of people in the scene: {people}.\nRecall in scenes: {recalls}."


def _pairs(pairs: Result) -> str:
    header = ("", "pairs", "right", "the neighbour's", "both right", "changed")
    lines = []
    for name, title in (
        ("own_window", "a window each, as the runtime sees them"),
        ("same_window", "one window"),
    ):
        for row, of in ((pairs[name], "all"), (pairs[name]["of_right_singly"], "those right singly")):
            cells = [percent(row[figure]["value"]) for figure in ("own", "other", "both_right", "changed")]
            lines.append((f"{title}; {of}", str(row["samples"]), *cells))
    return markdown(header, lines)


def _windows(rows: list[Result]) -> str:
    header = ("people", "own windows", "ms", "one picture", "in it", "ms")
    return markdown(
        header,
        [
            (
                str(row["people"]),
                percent(row["own_windows"]["accuracy"]),
                f"{row['own_windows']['frame_encoder_ms']:.1f}",
                percent(row["one_picture"]["accuracy"]),
                percent(row["one_picture"]["in_the_picture"]),
                f"{row['one_picture']['frame_encoder_ms']:.1f}",
            )
            for row in rows
        ],
    )


def _between(figure: Result) -> str:
    text = percent(figure["value"])
    return text if figure["low"] is None else f"{text} ({100 * figure['low']:.1f}-{100 * figure['high']:.1f})"


def _two(shares: Any) -> str:
    return " / ".join(f"{100 * share:.1f}" for share in shares)


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"
