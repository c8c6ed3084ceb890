"""The limits of quality that fit-probe measures, and their way into a bundle and to the runtime."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_runtime.bundle import load_bundle
from emotion_runtime.heads import load_head
from emotion_runtime.manifest import DEFAULT_QUALITY, QualityLimits
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.heads import PROBE, HeadCard, LinearHead
from emotion_train.probing import quality_limits
from emotion_train.probing.encoders import BundleEncoder
from emotion_train.probing.new_bundle import write_bundle
from emotion_train.probing.quality_limits import LEAST_FACES, crossing, measure_limits
from emotion_train.probing.view_features import encode_views
from emotion_train.scenes.faces import Faces, load_faces
from emotion_train.scenes.views import PLAIN, Condition, cut, shrunk

SPEC = load_bundle("nano").manifest.preprocess


class _Detail:
    """An encoder whose feature is the contrast of neighbouring pixels of the crop."""

    spec: PreprocessSpec = SPEC

    def features(
        self, images: NDArray[np.uint8], patch_weights: NDArray[np.float32], kind: str
    ) -> NDArray[np.float32]:
        del patch_weights, kind
        grey = images[:, 0].astype(np.float32).mean(axis=3)
        return np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2), dtype=np.float32)[:, None]


def noise(count: int) -> Faces:
    images = np.random.default_rng(0).integers(0, 255, (count, 48, 48), dtype=np.uint8)
    return Faces.of_labels(images, np.zeros(count, np.int64))


def test_the_limit_lies_between_the_last_good_and_the_first_bad_point():
    curve = [(160.0, 0.8), (40.0, 0.8), (20.0, 0.7), (10.0, 0.5)]
    assert crossing(curve, 0.6) == pytest.approx(15.0)
    assert crossing(curve, 0.75) == pytest.approx(30.0)


def test_without_a_bad_point_the_worst_measured_quality_is_the_limit():
    assert crossing([(1.0, 0.8), (0.5, 0.79)], 0.6) == 0.5


def test_too_few_faces_give_no_limits():
    assert measure_limits(_Detail(), lambda f: np.ones((len(f), 7)), noise(LEAST_FACES - 1), seed=0) is None


@pytest.mark.slow
def test_a_model_that_needs_detail_has_higher_limits_than_one_that_needs_none(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(quality_limits, "LEAST_FACES", 1)
    faces = noise(12)

    def constant(features: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.tile(np.eye(7)[0], (len(features), 1))

    def detailed(features: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.eye(7)[(features[:, 0] < 6).astype(int)]

    easy = measure_limits(_Detail(), constant, faces, seed=0)
    strict = measure_limits(_Detail(), detailed, faces, seed=0)
    assert easy is not None and strict is not None  # noqa: PT018
    assert easy.head_px == pytest.approx(12, rel=0.05)  # the smallest head that is measured
    assert easy.inside == pytest.approx(0.5, abs=0.01)
    assert strict.head_px > easy.head_px
    assert strict.sharpness > easy.sharpness
    assert strict.frontal == easy.frontal == DEFAULT_QUALITY.frontal


def test_the_quality_of_a_view_is_what_the_condition_states():
    seen = encode_views(_Detail(), noise(6), {PLAIN: Condition(), "a": shrunk(24), "b": cut(0.7)}, seed=0)
    assert seen[PLAIN].mean_quality("head_px") == pytest.approx(160, abs=0.1)
    assert seen["a"].mean_quality("head_px") == pytest.approx(24, rel=0.02)
    assert [view.inside for view in seen["b"].quality] == pytest.approx([0.7] * 6, abs=0.005)


def _stored(change: Callable[[HeadCard], HeadCard]) -> LinearHead:
    head = load_head(load_bundle("nano"))
    card = HeadCard("probe", list(head.labels), head.activation, head.temperature, {}, "0")
    return LinearHead(head.weight, head.bias, change(card))


def test_a_bundle_with_a_new_head_states_its_limits_or_keeps_those_it_had(tmp_path: Path):
    limits = QualityLimits(head_px=21.0, sharpness=0.3, inside=0.8)
    head = _stored(lambda card: msgspec.structs.replace(card, quality=limits))
    write_bundle(load_bundle("nano"), {PROBE: head}, tmp_path / "a", dataset="scenes")
    assert load_bundle(tmp_path / "a").manifest.quality == limits
    write_bundle(
        load_bundle(tmp_path / "a"), {PROBE: _stored(lambda card: card)}, tmp_path / "b", dataset="x"
    )
    assert load_bundle(tmp_path / "b").manifest.quality == limits


@pytest.mark.nightly
def test_the_limits_of_the_shipped_bundle_are_those_measured_on_validation_faces(shared_data: Path):
    manifest = load_bundle("nano").manifest
    if manifest.schema < 3:
        pytest.skip("measured with an earlier nano")
    encoder = BundleEncoder("nano")
    faces = load_faces(shared_data / "data" / "fer2013_plus.npz", "val")
    measured = measure_limits(encoder, load_head(encoder.bundle), faces, seed=1)
    assert measured is not None
    assert measured.head_px == pytest.approx(manifest.quality.head_px, abs=3)
    assert measured.sharpness == pytest.approx(manifest.quality.sharpness, abs=0.06)
    assert measured.inside == pytest.approx(manifest.quality.inside, abs=0.06)
