"""The accuracy report: metrics, targets, and how to read them."""

from collections.abc import Iterator, Sequence

from emotion_bench import quality_bins
from emotion_bench.accuracy import Result
from emotion_bench.report import with_interval
from emotion_train.tables import markdown_table, percent

SETS = {
    "scenes": "rendered scenes of 1-4 people",
    "scenes_new_faces": "rendered scenes of 1-4 people, no copies",
    "zero_shot": "rendered scenes of 1-4 people, zero-shot",
    "tight_faces": "aligned face crops as one-person images",
    "poor_scenes": "rendered scenes of 1-4 people, degraded images",
    "scenes_fp16": "rendered scenes of 1-4 people, fp16",
    "scenes_int8": "rendered scenes of 1-4 people, int8",
}

_PAGE = """# Accuracy of `{bundle[name]}`

    python benchmarks/bench_accuracy.py --bundle {bundle[name]} --data DIR --videos VIDEO ...

Seven emotions on {test_faces} test faces of FER2013 with their original pixels, through the bundle's ONNX
graphs; 95 % bootstrap intervals over faces. None of these files was used for training or tuning. Ten people
voted on every face (FER+). Accuracy, balanced accuracy and everything below are measured on the {clear_faces}
faces that more than half of them see alike, with the emotion that they see. The calibration error compares
probabilities with votes, on all faces. "FER2013 label" is the agreement with the one label of FER2013 on
all faces: that label differs from most votes for a third of the faces, and a perfect predictor of the votes
would reach 63.4 %. Chance is 14.3 %. The metrics that a bundle states for its heads, by `emotion-train
fit-probe`, count all faces with the emotion that most voters see, however few they are, and are lower.

The scenes are rendered: faces of FER2013 on drawn bodies and backgrounds.

{sets_part}

## Targets

{targets}

## Confusions and calibration

![Confusion matrix](confusion.png) ![Reliability](reliability.png)

No label is given where its probability is under {abstaining[threshold]:.3f} (a threshold fitted on
validation faces). A label is given in {answered} of the cases; {right} of these are right, and {rest} of
the others would be.

## Two people of different emotions in one image

{pairs[pairs]} pairs. In {pairs[right_singly]} of them both predictions are right when the other person is
absent ({alone} of all such predictions are right). "changed": the predictions for the two people differ.

{pair_table}

## One corruption at a time

The same people, alone, standing still, with a face of 80 px, without camera effects: {clean}. A corruption
costs {corruptions[mean_drop_points]:.1f} points on average.

{corruption_table}

## By quality of the view

Every face once, with a head of 12 to 160 px, half of them blurred and a third of them cut off by the edge of
the frame. Rows of one quality leave out views of which another one is below its limit. Below a limit the
runtime gives no label. Accuracy is that on clear faces; confidence and calibration error are compared with
the votes on all faces.

{quality_table}

![Confidence and accuracy by quality of the view](quality.png)

## A crop per person, or one shared crop

Accuracy by number of people. The shared crop is the square around all heads; "inside" is the fraction of
people with at least half of their head in it. bench_crowd.py measures what both cost.

{window_table}

## The whole runtime

{through_runtime[persons]} people with {subset} test faces, in scenes of one and two, frame by frame: the
detector found {found} of them, and {whole} of the predictions for these are right.

Changes of the label on real people, per person and minute, at the default smoothing ("raw": the likeliest
label of each clip alone):

{changes}

## The 26 categories (experimental)

Zero-shot: not fitted on any labels. Labelled faces exist for six of the 26 categories; the table gives the
area under the ROC curve for these (chance: 0.5). **The other 20 are not measured.**

{categories}
"""


def page(result: Result) -> str:
    """Return accuracy.md for a result of bench_accuracy.py."""
    corruptions, abstaining = result["corruptions"], result["abstaining"]
    whole, rest, clean = result["through_runtime"], abstaining["accuracy_of_the_rest"], corruptions["clean"]
    dropped = [(name, percent(v), f"{100 * (clean - v):.1f}") for name, v in corruptions["rows"].items()]
    changes = [
        (video, f"{row['person_minutes']:.2f}", f"{row['raw_changes']:.1f}", f"{row['label_changes']:.1f}")
        for video, row in result["label_changes"].items()
    ] or [("none given", "", "", "")]
    areas = [(name, f"{area:.3f}") for name, area in result.get("categories_auc", {}).items()]
    return _PAGE.format(
        **result,
        sets_part=sets_part(result),
        targets=markdown_table(("what", "target", "beyond", "measured", ""), list(targets(result))),
        answered=percent(abstaining["answered"]),
        right=percent(abstaining["accuracy_of_answered"]),
        rest="none" if rest is None else percent(rest),
        alone=percent(result["pairs"]["accuracy_alone"]),
        pair_table=_pairs(result["pairs"]),
        clean=percent(clean),
        corruption_table=markdown_table(("", "accuracy", "drop, points"), dropped),
        quality_table=quality_bins.table(result["quality"]),
        window_table=windows_table(result["windows"]),
        subset=min(300, result["test_faces"]),
        found=percent(whole["found"]),
        whole=percent(whole["accuracy"]),
        changes=markdown_table(("video", "person minutes", "raw", "shown"), changes),
        categories=markdown_table(("category", "AUC"), areas),
    )


def targets(result: Result) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield rows of the table of targets: what, target, a more ambitious value, measured, met or missed."""
    sets, pairs = result["sets"], result["pairs"]
    aims = {"scenes": ((0.77, 0.60), (0.81, 0.66)), "tight_faces": ((0.80, 0.62), (0.84, 0.68))}
    for name, (least, best) in aims.items():
        found = [sets[name][metric]["value"] for metric in ("accuracy", "balanced_accuracy")]
        met = all(value >= target for value, target in zip(found, least, strict=True))
        yield f"{SETS[name]}: accuracy / balanced", _two(least), _two(best), _two(found), _met(met)
    lost = 100 * (pairs["accuracy_alone"] - pairs["own_window"]["own"]["value"])
    what = "pairs: points lost because a second person is there"
    yield what, "<= 2", "<= 1", f"{lost:.1f}", _met(lost <= 2)
    for name, title in (("own_window", "a crop per person"), ("same_window", "one shared crop")):
        changed = pairs[name]["of_right_singly"]["changed"]["value"]
        what = f"pairs right when alone, {title}: predictions that change"
        yield what, ">= 85 %", "", percent(changed), _met(changed >= 0.85)
    ece, what = sets["scenes"]["ece"]["value"], "calibration error against the votes, 15 bins"
    yield what, "<= 0.04", "<= 0.02", f"{ece:.3f}", _met(ece <= 0.04)
    drop = result["corruptions"]["mean_drop_points"]
    yield "corruptions: mean drop, points", "<= 12", "<= 7", f"{drop:.1f}", _met(drop <= 12)
    size = result["bundle"]["bytes"]
    yield "bundle in fp32, MB", "<= 20", "", f"{size['fp32'] / 1e6:.1f}", _met(size["fp32"] <= 20e6)
    if "int8" in size and "scenes_int8" in sets:
        points = 100 * (sets["scenes"]["accuracy"]["value"] - sets["scenes_int8"]["accuracy"]["value"])
        yield "int8: accuracy lost, points", "<= 1", "<= 0.5", f"{points:.1f}", _met(points <= 1)
        yield "bundle in int8, MB", "<= 6", "", f"{size['int8'] / 1e6:.1f}", _met(size["int8"] <= 6e6)
    if changes := result["label_changes"]:
        minutes = sum(row["person_minutes"] for row in changes.values())
        count = sum(row["label_changes"] * row["person_minutes"] for row in changes.values())
        what = f"label changes a minute and person ({count:.0f} changes in {minutes:.1f} minutes)"
        yield what, "<= 6", "", f"{count / minutes:.1f}", _met(count / minutes <= 6)


def sets_part(result: Result) -> str:
    """Return the table of the test sets, and what is behind its first row."""
    sets = result["sets"] | ({"zero_shot": result["zero_shot"]} if "zero_shot" in result else {})
    lines = [
        (
            title,
            *(with_interval(sets[name][metric]) for metric in ("accuracy", "balanced_accuracy")),
            f"{sets[name]['ece']['value']:.3f}",
            percent(sets[name]["fer2013_label"]["value"]),
            percent(sets[name]["calm_taken_for_negative"]["value"]),
        )
        for name, title in SETS.items()
        if name in sets
    ]
    people = ", ".join(f"{n}: {percent(value)}" for n, value in result["by_people"].items())
    found = {name: sets["scenes"].get(f"recall_{name}") for name in result["labels"]}
    # Of a few faces none may be of a class.
    recalls = ", ".join(f"{name} {percent(recall['value'])}" for name, recall in found.items() if recall)
    header = ("", "accuracy", "balanced accuracy", "calibration error", "FER2013 label")
    return (
        f"{markdown_table((*header, 'calm taken for negative'), lines)}\n\n"
        '"Calm taken for negative": clearly neutral or happy faces that are called angry, sad or afraid.\n'
        "Balanced accuracy counts every class alike. Few of the clear faces are disgusted or afraid, so its\n"
        "interval is not a bootstrap, which is too narrow then, but that of independent recalls with\n"
        "Jeffreys' prior.\n\n"
        f"{result['copies']} of the {result['test_faces']} test faces show the same photograph as a face for "
        "training or\ntuning, cropped or compressed anew: their pixels correlate by 0.92 or more. "
        '"No copies" leaves them out.\n\n'
        f"By number of people in the scene: {people}.\nRecall in scenes: {recalls}."
    )


def _pairs(pairs: Result) -> str:
    header = ("", "pairs", "right", "the other's label", "both right", "changed")
    lines = []
    titles = {"own_window": "a crop per person, as in the runtime", "same_window": "one shared crop"}
    for name, title in titles.items():
        for row, of in ((pairs[name], "all"), (pairs[name]["of_right_singly"], "pairs right when alone")):
            cells = [percent(row[figure]["value"]) for figure in ("own", "other", "both_right", "changed")]
            lines.append((f"{title}; {of}", str(row["samples"]), *cells))
    return markdown_table(header, lines)


def windows_table(rows: list[Result]) -> str:
    """Return the table that compares a crop per person with one shared crop."""
    lines = [
        (str(row["people"]), *map(percent, (row["own_windows"]["accuracy"], *row["one_picture"].values())))
        for row in rows
    ]
    return markdown_table(("people", "a crop per person", "a shared crop", "inside of it"), lines)


def _two(fractions: Sequence[float]) -> str:
    return " / ".join(f"{100 * fraction:.1f}" for fraction in fractions)


def _met(met: bool) -> str:
    return "met" if met else "**missed**"
