"""A correct engine passes the parity check; a wrong one fails."""

import math
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest
from annotated_images import iou
from safetensors.numpy import load_file

from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.names import EnginePrecision
from emotion_runtime.parity import (
    ENGINE_TOLERANCES,
    Comparison,
    ParityCheck,
    Reference,
    failure,
    label_function,
    make_parity_check,
)
from emotion_runtime.parity_inputs import clip_feeds, frame_encoder_feeds
from emotion_runtime.parity_metrics import LabelFunction, subject_cosine, subject_pairs
from emotion_runtime.preprocess import PreprocessSpec
from emotion_runtime.sources.demo import head_boxes, read_demo

SPEC = PreprocessSpec(size=112, patch=16, window="subject", short_side=128, subject_scale=1.3)


class Constant:
    """An engine that always returns the same rows."""

    description = "stand-in"

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def run(self, feeds: Feeds) -> Outputs:
        return {"features": self._rows[: len(feeds["embeddings"])]}


def larger(features: np.ndarray) -> np.ndarray:
    """Return the labels of one head: the index of the largest value."""
    return features.argmax(axis=1)[None]


def check_of(expected: np.ndarray, labels: LabelFunction = larger) -> ParityCheck:
    """Return a parity check with one batch of the temporal encoder."""
    feed = {"embeddings": np.zeros((len(expected), 8, 2), np.float32)}
    return ParityCheck([Comparison("temporal_encoder", [feed], expected, labels)])


def test_the_metrics_of_a_difference():
    expected = np.array([[3, 4], [0, 1]], np.float32)
    found = np.array([[4, 3], [0, 1]], np.float32)  # cosine (12 + 12) / 25
    (row,) = check_of(expected).measure(Constant(found), "mixed")
    assert (row.graph, row.persons, row.frames, row.samples) == ("temporal_encoder", 2, 8, 2)
    assert (row.max_abs, row.mean_abs) == (1, 0.5)
    assert row.cosine_min == pytest.approx(0.96)
    assert row.cosine_mean == pytest.approx(0.98)
    deviation = math.sqrt((1 + 4 + 4 + 1) / 4)  # of 3, 4, 0, 1; their mean is 2
    assert row.tolerance == pytest.approx(0.02 * deviation)
    assert (row.precision, row.reference) == ("fp16", "fp32 graph")
    assert row.top1_agreement == 0.5  # 4 > 3 but 3 < 4; the other person does not change


def test_a_person_counts_as_kept_only_if_every_head_gives_the_same_label():
    expected = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3], [3, 2, 1]], np.float32)
    found = np.array([[1, 2, 3], [1, 3, 2], [2, 1, 3], [3, 2, 1]], np.float32)

    def largest_and_smallest(features: np.ndarray) -> np.ndarray:
        return np.stack([features.argmax(axis=1), features.argmin(axis=1)])

    (row,) = check_of(expected, largest_and_smallest).measure(Constant(found), "int8")
    assert row.top1_agreement == 0.5


def test_labels_are_counted_over_all_rows():
    """One person of 28 may lie between two labels; an engine that changes many labels is wrong."""
    expected = np.array([[1.0, -1.0, 0.5]], np.float32)
    (good,) = check_of(expected).measure(Constant(expected), "fp16")
    assert good.top1_agreement == 1
    few = msgspec.structs.replace(good, top1_agreement=0.0)
    many = msgspec.structs.replace(good, persons=27, samples=27)
    assert failure([many, few], ENGINE_TOLERANCES["fp16"]) == ""
    line = failure([many, few, few], ENGINE_TOLERANCES["fp16"])
    assert "93.1% of all persons keep their labels; expected " in line
    assert line.endswith("95.0% or more")
    assert failure([many, few, few], ENGINE_TOLERANCES["int8"]) == ""


def labels_of(bundle: Bundle, features: np.ndarray) -> np.ndarray:
    manifest = bundle.manifest
    return label_function(bundle.folder, manifest.heads, manifest.default_head)(features)


def test_which_heads_count(tiny_bundle: Path):
    """Experimental heads do not count, unless one is the default head, whose labels people see."""
    bundle = load_bundle(tiny_bundle)
    features = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    normalised = features / np.linalg.norm(features, axis=1, keepdims=True)
    heads = [load_file(tiny_bundle / f"{name}.safetensors") for name in ("probe", "opposite")]
    probe, opposite = ((normalised @ head["weight"].T + head["bias"]).argmax(axis=1) for head in heads)
    assert (probe != opposite).any()
    assert np.array_equal(labels_of(bundle, features), [probe, opposite])

    def changed(name: str, **fields: object) -> Bundle:
        heads = {
            **bundle.manifest.heads,
            name: msgspec.structs.replace(bundle.manifest.heads[name], **fields),
        }
        return Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, heads=heads))

    default, other = bundle.manifest.default_head, "opposite"
    for fields in ({"experimental": True}, {"activation": "identity", "temperature": 1.0}):
        assert np.array_equal(labels_of(changed(other, **fields), features), [probe])
    assert np.array_equal(labels_of(changed(default, experimental=True), features), [probe, opposite])


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_every_run_is_compared(wrong: int):
    """The first run of a batch size launches single kernels, the second is captured, the third replays it."""

    class WrongOnce:
        description = "stand-in"
        runs = 0

        def run(self, _feeds: Feeds) -> Outputs:
            self.runs += 1
            return {"features": -expected if self.runs == wrong else expected}

    expected = np.array([[1.0, -1.0]], np.float32)
    rows = check_of(expected).measure(WrongOnce(), "fp16")
    assert "cosine -1.00000" in failure(rows, ENGINE_TOLERANCES["fp16"])


def test_another_shape_is_rejected():
    line = r"temporal_encoder: the output has shape \(2, 3\), expected \(2, 2\)"
    with pytest.raises(EmotionError, match=line):
        check_of(np.ones((2, 2), np.float32)).measure(Constant(np.ones((2, 3))), "fp16")


@pytest.mark.parametrize("precision", ENGINE_TOLERANCES)
def test_each_metric_is_compared_with_its_tolerance(precision: EnginePrecision):
    expected = np.array([[1.0, -1.0, 0.5]], np.float32)
    (good,) = check_of(expected).measure(Constant(expected), precision)
    assert failure([good], ENGINE_TOLERANCES[precision]) == ""
    tolerance = ENGINE_TOLERANCES[precision]
    for bad in (
        {"max_abs": 1.01 * good.tolerance},
        {"max_abs": math.nan},
        {"cosine_min": tolerance.cosine_min - 1e-6},
        {"cosine_min": math.nan},
        {"subject_cosine": tolerance.subject_cosine - 1e-6},
        {"subject_cosine": math.nan},
    ):
        line = failure([good, msgspec.structs.replace(good, **bad)], ENGINE_TOLERANCES[precision])
        assert line.startswith("differs from the fp32 graph for 1 persons and 8 frames: cosine ")
        assert "\n" not in line


def test_the_message_shows_the_worst_row():
    expected = np.array([[1.0, -1.0, 0.5]], np.float32)
    (good,) = check_of(expected).measure(Constant(expected), "fp16")
    rows = [msgspec.structs.replace(good, cosine_min=c, persons=p) for p, c in ((1, 0.9), (3, 0.5), (8, 0.7))]
    assert "for 3 persons and 8 frames: cosine 0.5000000" in failure(rows, ENGINE_TOLERANCES["fp16"])
    rows.append(msgspec.structs.replace(good, cosine_min=math.nan, persons=16))
    assert "for 16 persons and 8 frames: cosine nan" in failure(rows, ENGINE_TOLERANCES["fp16"])


def test_tolerances_are_stricter_for_precisions_with_more_bits():
    order = [ENGINE_TOLERANCES[precision] for precision in ("fp32", "mixed", "fp16", "int8")]
    assert [t.cosine_min for t in order] == sorted((t.cosine_min for t in order), reverse=True)
    assert [t.max_abs for t in order] == sorted(t.max_abs for t in order)


def test_the_demo_states_where_its_heads_are():
    detector = load_detector("face")
    for frame in islice(read_demo(), 0, None, 30):
        found = sorted(map(tuple, detector(frame.image).boxes.tolist()))
        for stated, box in zip(head_boxes(), found, strict=True):
            assert iou(stated, box) > 0.4


@pytest.mark.parametrize("limits", [Limits(16, 4), Limits(16, 16, True), Limits(3, 1), Limits(1, 1)])
def test_feeds_have_images_and_persons_of_all_kinds_and_sizes(limits: Limits):
    persons, images = limits.persons, limits.images
    groups = frame_encoder_feeds(SPEC, limits)
    sizes = [{(len(feed["images"]), len(feed["frame_index"])) for feed in group} for group in groups]
    assert sizes == [{size} for size in limits.sizes()]
    feeds = [feed for group in groups for feed in group]
    for feed in feeds:
        f, p = len(feed["images"]), len(feed["frame_index"])
        assert (f <= images, p <= persons) == (True, True)
        assert feed["images"].shape == (f, 112, 112, 3)
        assert feed["images"].dtype == np.uint8
        assert feed["frame_index"].max() == min(f, p) - 1
        assert feed["patch_weights"].shape == (p, 49)
        assert feed["patch_weights"].dtype == np.float32
    again = [feed for group in frame_encoder_feeds(SPEC, limits) for feed in group]
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(feeds, again, strict=True) for name in a)
    if persons >= 5:
        weights = np.concatenate([feed["patch_weights"] for feed in feeds])
        assert (weights == 0).all(axis=1).any()  # covers nothing
        assert (weights == 1).all(axis=1).any()  # covers the image
        heads = ((weights == 0).any(axis=1)) & ((weights > 0.5).any(axis=1)) & (weights.sum(axis=1) < 40)
        assert heads.any()
        images_seen = np.concatenate([feed["images"] for feed in feeds]).astype(float)
        steps = np.abs(np.diff(images_seen, axis=2)).mean(axis=(1, 2, 3))
        assert steps.max() > 60  # noise
        assert steps.min() < 20  # a photograph


def test_clips_are_made_of_the_given_embeddings():
    embeddings = np.arange(40, dtype=np.float32).reshape(10, 4)
    feeds = clip_feeds(embeddings, frames=8, persons=3, rounds=2)
    assert [feed["embeddings"].shape for feed in feeds] == [(3, 8, 4), (3, 8, 4)]
    rows = np.concatenate([feed["embeddings"].reshape(-1, 4) for feed in feeds])
    assert {tuple(row) for row in rows} <= {tuple(row) for row in embeddings}
    assert not np.array_equal(feeds[0]["embeddings"], feeds[1]["embeddings"])


def test_a_frame_embedding_is_read_as_a_clip_of_it():
    """The features of a clip are those of the temporal encoder, which here turns them round."""
    shapes = []

    def swapped(feed: Feeds) -> np.ndarray:
        shapes.append(feed["embeddings"].shape)
        return feed["embeddings"][:, 0, ::-1]

    reference = Reference("torch", lambda feed: feed["images"], swapped, 4, larger)
    embeddings = np.array([[2, 1], [0, 5], [3, 1]], np.float32)
    assert reference.labels_of_frames(embeddings).tolist() == [[1, 0, 1]]
    assert shapes == [(3, 4, 2)]


@pytest.mark.parametrize("graph", ["frame_encoder", "temporal_encoder"])
def test_the_graph_itself_passes_and_another_one_fails(tiny_bundle: Path, graph: str):
    bundle = load_bundle(tiny_bundle)
    check = make_parity_check(bundle, graph, Limits(persons=8, images=2))
    assert isinstance(check, ParityCheck)
    backend = OnnxBackend(bundle.graph_path(graph))
    rows, fault = check.run(backend, "fp32")
    assert fault == ""
    assert {row.persons for row in rows} == {1, 2, 4, 8}

    class Off:
        description = "a third off in one value of one person"

        def run(self, feeds: Feeds) -> Outputs:
            ((name, value),) = backend.run(feeds).items()
            value[-1, 0] *= 1.3
            return {name: value}

    for precision in ("fp32", "fp16", "mixed"):
        assert check.run(Off(), precision)[1].startswith(f"{precision} differs")


def test_pairs_are_persons_who_see_the_same_crop_with_other_weights():
    crop, other = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)
    one, two = np.array([1, 0], np.float32), np.array([0, 1], np.float32)

    def feed(images: list[np.ndarray], index: list[int], weights: list[np.ndarray]) -> Feeds:
        return {
            "images": np.stack(images),
            "frame_index": np.array(index),
            "patch_weights": np.stack(weights),
        }

    first = feed([crop, other], [0, 1, 0, 0], [one, one, two, two])
    second = feed([other], [0], [two])
    assert subject_pairs([first, second]).tolist() == [[0, 2], [1, 4]]
    assert subject_pairs([{"embeddings": np.zeros((3, 4, 2), np.float32)}]).shape == (0, 2)


def test_the_cosine_of_differences():
    expected = np.array([[1.0, 0], [0, 1], [5, 5], [5, 5]])
    pairs = np.array([[0, 1], [2, 3]])
    assert subject_cosine(expected, expected + 7, pairs) == pytest.approx(1)
    assert subject_cosine(expected, expected[[1, 0, 2, 3]], pairs) == pytest.approx(-1)
    assert math.isnan(subject_cosine(expected, np.ones((4, 2)), pairs) or 0)
    assert subject_cosine(expected, expected, np.array([[2, 3]])) is None  # the model ignores the subject


def test_both_people_of_the_demo_are_in_the_crop():
    _, one, other = frame_encoder_feeds(SPEC, Limits(16, 16, crop_per_person=True))[-1]
    assert np.array_equal(one["images"], other["images"])
    first, second = one["patch_weights"][:2]
    assert np.array_equal(other["patch_weights"][:2], [second, first])
    assert first.sum() > 0.5
    assert second.sum() > 0.5
    assert not np.minimum(first, second).any()
