import re

import msgspec
import numpy as np
import pytest
from exported import Exported
from numpy.typing import NDArray

from emotion_export.parity import TOLERANCES, measure, passes, require_parity
from emotion_export.samples import SIZES
from emotion_runtime.backends.base import Feeds
from emotion_runtime.bundle import load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import Parity
from emotion_runtime.names import Precision
from emotion_runtime.parity import Comparison, Reference
from emotion_runtime.parity_metrics import top1_agreement, within_tolerance

Array = NDArray[np.float32]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def row(precision: Precision = "fp32", **figures: float) -> Parity:
    good = {"max_abs": 1e-6, "mean_abs": 1e-7, "cosine_min": 1.0, "cosine_mean": 1.0, "top1_agreement": 1.0}
    return Parity(
        "frame_encoder",
        3,
        2,
        **{**good, **figures},
        tolerance=TOLERANCES[precision].max_abs,
        precision=precision,
        samples=100,
    )


def within(row: Parity) -> bool:
    return within_tolerance(row, TOLERANCES[row.precision])


def last_frame(feed: Feeds) -> Array:
    return np.asarray(feed["embeddings"][:, -1], np.float32)


def by_sum(feed: Feeds) -> Array:
    """(P, 2): pixel sum of the person's picture, sum of its patch weights."""
    sums = feed["images"].sum(axis=(1, 2, 3))[feed["frame_index"]]
    return np.stack([sums, feed["patch_weights"].sum(axis=1)], axis=1).astype(np.float32)


def larger_and_smaller(features: Array) -> NDArray[np.intp]:
    """Return the labels of two heads: which of two numbers is larger, and which is smaller."""
    return np.stack([features.argmax(axis=1), features.argmin(axis=1)])


REFERENCE = Reference("torch", by_sum, last_frame, 4, larger_and_smaller)


def row_of(expected: Array, runs: list[Array], precision: Precision) -> Parity:
    feeds = [{"embeddings": np.zeros((len(expected), 5, 2), np.float32)}]
    comparison = Comparison("temporal_encoder", feeds, expected, REFERENCE.labels, "real", "torch")
    (figures,) = measure([comparison], [lambda _, run=run: run for run in runs], precision)
    return figures


def test_metrics_of_a_difference():
    expected = np.array([[3, 4], [1, 0]], np.float32)
    found = np.array([[4, 3], [1, 0]], np.float32)  # cosine (12 + 12) / 25, and the other label
    figures = row_of(expected, [found], "fp16")
    assert (figures.graph, figures.frames, figures.persons) == ("temporal_encoder", 5, 2)
    assert (figures.precision, figures.images, figures.reference) == ("fp16", "real", "torch")
    assert figures.max_abs == 1
    assert figures.mean_abs == 0.5
    assert figures.cosine_min == pytest.approx(0.96, abs=1e-12)
    assert figures.cosine_mean == pytest.approx(0.98, abs=1e-12)
    assert (figures.top1_agreement, figures.samples) == (0.5, 2)
    assert figures.tolerance == TOLERANCES["fp16"].max_abs


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "second", [[50.0, 50.1], [50.1, 50.0]], ids=["the same for both subjects", "swapped"]
)
def test_a_graph_that_gets_the_subject_wrong_is_refused(precision: Precision, second: list[float]):
    """Both subjects see one crop, so their embeddings have a high cosine whoever is meant."""
    crop = np.zeros((1, 2, 2, 3), np.uint8)
    feed = {"images": crop, "frame_index": np.array([0, 0]), "patch_weights": np.eye(2, dtype=np.float32)}
    expected = np.array([[50.0, 50.0, 50.0, 50.1], [50.0, 50.0, 50.1, 50.0]], np.float32)
    found = np.array([[50.0, 50.0, *second]] * 2, np.float32)
    if second[0] > second[1]:
        found = expected[::-1]
    labels = REFERENCE.labels
    subjects = Comparison("frame_encoder", [feed], expected, lambda each: labels(each[:, :2]))
    (figures,) = measure([subjects], [lambda _: found], precision)
    assert figures.cosine_min > 0.99999
    assert figures.top1_agreement == 1
    assert not within(msgspec.structs.replace(figures, max_abs=0.0, mean_abs=0.0))
    assert within(*measure([subjects], [lambda _: expected], precision))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("figure", "value"),
    [(figure, value) for figure in ("max_abs", "mean_abs") for value in (1.1, float("nan"))]
    + [("cosine_min", 0.9), ("cosine_min", float("nan"))],
)
def test_each_metric_is_compared_with_its_tolerance(precision: Precision, figure: str, value: float):
    good, bad = row(precision), row(precision, **{figure: value})
    assert within(good)
    require_parity([good])
    assert not within(bad)
    with pytest.raises(EmotionError, match=f"encoder.onnx in {precision} differs .* 3 persons") as error:
        require_parity([good, bad])
    assert "\n" not in str(error.value)


def test_fewer_bits_are_allowed_more_and_never_what_is_seen_of_broken_ones():
    """0.987: the best that saturating int8 kernels were seen at; 0.646: an engine wrong in silence."""
    strict, half, eight = (TOLERANCES[precision] for precision in PRECISIONS)
    for figure in ("max_abs", "mean_abs"):
        assert getattr(strict, figure) < getattr(half, figure) < getattr(eight, figure)
    for figure in ("cosine_min", "top1_agreement"):
        assert getattr(strict, figure) > getattr(half, figure) > getattr(eight, figure)
    assert not passes([row("int8", cosine_min=0.987)])
    assert not passes([row("fp16", cosine_min=0.646)])


def test_labels_count_over_all_rows_by_persons():
    """One person of 1 who changes is 1 of 101, not half of two rows."""
    rows = [row("int8"), msgspec.structs.replace(row("int8", top1_agreement=0.0), samples=1)]
    assert top1_agreement(rows) == pytest.approx(100 / 101)
    require_parity(rows)
    rows.append(row("int8", top1_agreement=0.7))
    assert all(within(r) for r in rows)
    with pytest.raises(EmotionError, match=r"84\.6% of all persons keep .*90\.0% or more"):
        require_parity(rows)


def test_the_worst_of_all_ways_to_run_counts():
    expected = np.array([[3, 4], [1, 0]], np.float32)
    turned = np.array([[4, 3], [1, 0]], np.float32)  # largest difference 1, cosine 0.96, one other label
    far = np.array([[6, 8], [1, 0]], np.float32)  # largest difference 4, cosine 1, the same labels
    for runs in ([turned, far], [far, turned]):
        both = row_of(expected, runs, "int8")
        assert (both.max_abs, both.mean_abs, both.top1_agreement) == (4, 7 / 4, 0.5)
        assert both.cosine_min == pytest.approx(0.96)
    for runs in ([expected, expected * np.nan], [expected * np.nan, expected]):
        assert not row_of(expected, runs, "int8").max_abs <= 1  # a NaN is the worst there is


def test_not_a_number_is_a_difference():
    expected = np.full((1, 2), np.nan, np.float32)
    assert not within(row_of(expected, [expected], "fp32"))


def test_the_reference_runs_both_graphs_at_all_sizes():
    rng = np.random.default_rng(0)
    groups = [
        [
            {
                "images": rng.integers(0, 9, (frames, 2, 2, 3), dtype=np.uint8),
                "frame_index": rng.integers(0, frames, persons),
                "patch_weights": rng.random((persons, 4), np.float32),
            }
        ]
        for frames, persons in SIZES
    ]
    made = REFERENCE.compare(groups, "random")
    sizes = {graph: [(each.frames, each.persons) for each in compared] for graph, compared in made.items()}
    assert sizes == {"frame_encoder": list(SIZES), "temporal_encoder": [(4, 1), (4, 3), (4, 8)]}
    for graph, run in (("frame_encoder", by_sum), ("temporal_encoder", last_frame)):
        rows = measure(made[graph], [run], "fp32")
        assert all(r.graph == graph and r.images == "random" for r in rows)
        assert all(r.max_abs == 0 and r.top1_agreement == 1 for r in rows)
        assert not passes(measure(made[graph], [run, lambda feed, run=run: run(feed) + 1], "fp32"))


@pytest.mark.slow
def test_the_report_is_on_the_screen_in_the_manifest_and_in_the_card(nano: Exported):
    rows = load_bundle(nano.folder).manifest.parity
    sizes = [("frame_encoder", *size) for size in SIZES]
    sizes += [("temporal_encoder", 8, persons) for persons in (1, 3, 8)]
    expected = {
        (precision, images, *size)
        for precision in PRECISIONS
        for images in ("real", "random")
        for size in sizes
    }
    assert {(r.precision, r.images, r.graph, r.frames, r.persons) for r in rows} == expected
    assert len(rows) == len(expected)
    assert all(within(r) and r.reference == "torch" for r in rows)
    assert all(r.max_abs > 0 for r in rows)  # two different programs never agree to the last bit
    card = (nano.folder / "MODEL_CARD.md").read_text()
    for text in (nano.screen, card):
        found = re.findall(
            r"^\| (\w+_encoder) +\| (\w+) \| (\w+) +\| (\d) \| (\d) \| +(\S+) \|", text, re.MULTILINE
        )
        assert sorted(found) == sorted(
            (r.graph, r.precision, r.images, str(r.persons), str(r.frames), f"{r.max_abs:.1e}") for r in rows
        )
