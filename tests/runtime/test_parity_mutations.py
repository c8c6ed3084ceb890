"""The parity check refuses encoders that mistake the subject, whatever else they return."""

from collections.abc import Callable

import numpy as np
import pytest

from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.backends.buckets import Limits, limits_for
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import load_bundle
from emotion_runtime.parity import ENGINE_TOLERANCES, ParityCheck, failure, make_parity_check

Weights = Callable[[np.ndarray], np.ndarray]
MUTATIONS: dict[str, Weights] = {
    "zero": np.zeros_like,
    "uniform": np.ones_like,
    "mean": lambda weights: np.broadcast_to(weights.mean(axis=0), weights.shape).astype(np.float32),
    "swapped": lambda weights: np.roll(weights, -1, axis=0),
}


@pytest.fixture(scope="module", params=[limits_for("subject", 4), Limits(4, 1)], ids=["own", "shared"])
def nano_check(request: pytest.FixtureRequest) -> tuple[ParityCheck, OnnxBackend]:
    """Return the check of the shipped frame encoder, with a crop per person or with one for all."""
    bundle = load_bundle("nano")
    check = make_parity_check(bundle, "frame_encoder", request.param)
    return check, OnnxBackend(bundle.graph_path("frame_encoder"))


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_an_engine_that_gets_the_subject_wrong_is_refused_in_every_precision(
    nano_check: tuple[ParityCheck, OnnxBackend], mutation: str
):
    check, backend = nano_check

    class Mutant:
        description = "an engine that reads the patch weights wrongly"

        def run(self, feeds: Feeds) -> Outputs:
            return backend.run({**feeds, "patch_weights": MUTATIONS[mutation](feeds["patch_weights"])})

    rows = check.measure(Mutant(), "fp32")
    for tolerance in ENGINE_TOLERANCES.values():
        subjects = np.array([row.subject_cosine for row in rows], np.float64)
        assert not (subjects >= tolerance.subject_cosine).all()  # whatever the other metrics say
        line = failure(rows, tolerance)
        assert "of the difference of two subjects" in line
    assert failure(check.measure(backend, "fp32"), ENGINE_TOLERANCES["fp32"]) == ""


@pytest.mark.parametrize("persons", [1, 2, 4])
def test_an_engine_that_is_wrong_in_one_size_is_refused(
    nano_check: tuple[ParityCheck, OnnxBackend], persons: int
):
    check, backend = nano_check

    class WrongInOneSize:
        description = "stand-in"

        def run(self, feeds: Feeds) -> Outputs:
            outputs = backend.run(feeds)
            wrong = len(feeds["frame_index"]) == persons
            return {name: -value if wrong else value for name, value in outputs.items()}

    rows = check.measure(WrongInOneSize(), "int8")
    assert failure(rows, ENGINE_TOLERANCES["int8"]).startswith(
        f"differs from the fp32 graph for {persons} persons"
    )
