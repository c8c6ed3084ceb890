"""The precision fallback on a stand-in for a GPU: real graphs in ONNX Runtime with injected faults."""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from emotion_export.engines import describe
from emotion_export.fp16 import half_precision
from emotion_export.graph_index import MATRIX_OPS
from emotion_export.precision_fallback import Built, build_in_precision, build_with_fallback
from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.backends.onnx import open_session
from emotion_runtime.bundle import load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.parity import ENGINE_TOLERANCES, ParityCheck, make_parity_check
from emotion_runtime.tensorrt.cache import EngineKey, Sidecar

Change = Callable[[NDArray[Any]], NDArray[Any]]
KEY = EngineKey("graph", {}, "builder", "GPU", "8.6", "ladder", 4, 2)
LIMITS = Limits(4, 2)  # test_parity checks that there is a row for each size up to the limits


def overflowing(weight: NDArray[Any]) -> NDArray[Any]:
    return np.full_like(weight, np.inf)


class InOnnxRuntime:
    description = "an ONNX file in place of an engine"

    def __init__(self, model: bytes) -> None:
        self._session = open_session(model, name="engine", fix="none")

    def run(self, feeds: Feeds) -> Outputs:
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))


@dataclass
class Faulty:
    """A GPU whose kernels get some matrix products wrong, in fp16 or always.

    broken: names of nodes. always: in fp32, too. change: what happens to the weights. built: what was built.
    The default is a large one: the shipped temporal encoder changes its features by less than a degree when
    all of its weights are multiplied by 1.5.
    """

    broken: Collection[str] = ()
    always: bool = False
    change: Change = lambda weight: weight * -8
    built: list[str] = field(default_factory=list)
    loaded: int = 0

    @contextmanager
    def build(self, model: onnx.ModelProto, name: str) -> Iterator[tuple[Built, InOnnxRuntime]]:
        """Build and load an engine."""
        self.built.append(name)
        self.loaded += 1
        assert self.loaded == 1, "two engines on a small device at once"
        engine = self.with_faults(model)
        yield (engine, describe(KEY, engine, {})), InOnnxRuntime(engine)
        self.loaded -= 1

    def with_faults(self, model: onnx.ModelProto) -> bytes:
        model = onnx.ModelProto.FromString(model.SerializeToString())
        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.name in self.broken:
                old = numpy_helper.to_array(weights[node.input[1]])
                if old.dtype == np.float16 or self.always:
                    new = self.change(old).astype(old.dtype)
                    # Others may share the weight, so the node gets one of its own.
                    model.graph.initializer.append(numpy_helper.from_array(new, f"broken {node.name}"))
                    node.input[1] = f"broken {node.name}"
        return bytes(model.SerializeToString())


@dataclass(frozen=True)
class Graph:
    full: onnx.ModelProto
    half: onnx.ModelProto
    check: ParityCheck

    def build_with_fallback(self, device: Faulty) -> Sidecar:
        return build_with_fallback(device.build, self.check, self.full, self.half)[1]

    def products(self) -> list[str]:
        """Names of the matrix products that have a weight."""
        constants = {tensor.name for tensor in self.full.graph.initializer}
        return [
            node.name
            for node in self.full.graph.node
            if node.op_type in MATRIX_OPS and node.input[1] in constants
        ]


@pytest.fixture(scope="module", params=["frame_encoder", "temporal_encoder"])
def graph(request: pytest.FixtureRequest) -> Graph:
    """Of the shipped bundle."""
    bundle = load_bundle("nano")
    full = onnx.load(bundle.graph_path(request.param))
    return Graph(full, half_precision(full), make_parity_check(bundle, request.param, LIMITS))


def test_fp16_is_chosen_where_it_passes(graph: Graph):
    device = Faulty()
    checked = graph.build_with_fallback(device)
    assert (checked.precision, checked.fp32_layers, checked.refused) == ("fp16", [], [])
    assert len(device.built) == 1
    assert {row.persons for row in checked.parity} == {1, 2, 4}
    tolerance = ENGINE_TOLERANCES["fp16"]
    for row in checked.parity:
        assert tolerance.cosine_min <= row.cosine_min < 1  # not compared with itself
        assert row.max_abs <= row.tolerance
        assert (row.precision, row.reference) == ("fp16", "fp32 graph")


@pytest.mark.parametrize("change", [lambda w: w * -8, overflowing], ids=["wrong", "overflow"])
def test_the_layer_that_is_wrong_in_fp16_is_kept_in_fp32(graph: Graph, change: Change):
    broken = graph.products()[len(graph.products()) // 2]
    device = Faulty({broken}, change=change)
    engine, checked = build_with_fallback(device.build, graph.check, graph.full, graph.half)
    assert checked.precision == "mixed"
    assert broken in checked.fp32_layers
    assert len(checked.fp32_layers) <= 0.7 * len(graph.products())
    assert len(checked.refused) == 1
    assert re.fullmatch(
        r"fp16 differs from the fp32 graph for \d+ persons and \d+ frames: cosine (nan|-?\d\.\d+), .*",
        checked.refused[0],
    )
    # fp16, the search for its worst layers, mixed with half of the stages and with a quarter in fp32.
    assert len(device.built) == 4
    # The engine that is stored is the one that was examined, with the layer in fp32.
    model = onnx.ModelProto.FromString(engine)
    weights = {t.name: t.data_type for t in model.graph.initializer}
    node = next(n for n in model.graph.node if n.name == broken)
    assert weights[node.input[1]] == TensorProto.FLOAT
    assert TensorProto.FLOAT16 in weights.values()


@pytest.mark.slow
def test_fp32_is_chosen_where_all_of_fp16_is_wrong(graph: Graph):
    device = Faulty(graph.products(), change=overflowing)
    checked = graph.build_with_fallback(device)
    assert (checked.precision, checked.fp32_layers) == ("fp32", [])
    assert [line.split(" ")[0] for line in checked.refused] == ["fp16", "mixed", "mixed"]
    assert all(row.cosine_min >= ENGINE_TOLERANCES["fp32"].cosine_min for row in checked.parity)


@pytest.mark.slow
def test_a_device_that_gets_fp32_wrong_gets_no_engine(graph: Graph):
    with pytest.raises(
        EmotionError, match=r"no engine of this TensorRT passes the parity check on this device"
    ) as error:
        graph.build_with_fallback(Faulty(graph.products(), always=True))
    assert "\n" not in str(error.value)
    assert "None is kept" in str(error.value)


@dataclass
class Unbuildable(Faulty):
    """A GPU that gets fp16 wrong, whose builder fails, or whose memory cannot hold the result.

    refused: beginnings of the names that cannot be built. unloadable: engines that are built, counted from 0,
    and cannot be loaded.
    """

    refused: tuple[str, ...] = ()
    unloadable: Collection[int] = ()

    @contextmanager
    def build(self, model: onnx.ModelProto, name: str) -> Iterator[tuple[Built, InOnnxRuntime]]:
        if name.partition(" ")[2].startswith(self.refused):
            self.built.append(name)
            raise EmotionError(f"{name}: cannot be built (no kernel)")
        if len(self.built) in self.unloadable:
            self.built.append(name)
            raise EmotionError("the engine cannot be loaded")
        with super().build(model, name) as built:
            yield built


def test_a_precision_that_cannot_be_built_is_skipped(graph: Graph):
    """Without the fp16 engine its worst layers are unknown, so fp32 is next."""
    device = Unbuildable(refused=("in fp16",))
    checked = graph.build_with_fallback(device)
    assert (checked.precision, checked.fp32_layers, len(checked.parity)) == (
        "fp32",
        [],
        len(graph.check.feeds),
    )
    name = graph.check.graph
    built, searched = checked.refused
    assert built == f"fp16 is not available ({name} in fp16: cannot be built (no kernel))"
    assert searched.startswith(
        f"mixed is skipped: the errors of fp16 cannot be measured ({name} in fp16, to "
    )
    assert len(device.built) == 3


def test_an_engine_that_cannot_be_loaded_is_skipped(graph: Graph):
    """The first mixed engine; the second one keeps more."""
    broken = graph.products()[len(graph.products()) // 2]
    checked = graph.build_with_fallback(Unbuildable({broken}, unloadable=[2]))
    assert checked.precision == "mixed"
    assert [line.split(" (")[0] for line in checked.refused[1:]] == ["mixed is not available"]
    assert re.search(r"cannot be loaded\) \(\d+ matrix products kept in fp32\)$", checked.refused[1])
    assert broken in checked.fp32_layers


def test_if_no_engine_can_be_built_all_reasons_are_given(graph: Graph):
    with pytest.raises(EmotionError, match=r"fp16 is not available .*; fp32 is not available ") as error:
        graph.build_with_fallback(Unbuildable(refused=("in ",)))
    assert "\n" not in str(error.value)


def test_a_precision_by_name_that_cannot_be_built_is_the_builders_error(graph: Graph):
    with pytest.raises(EmotionError, match=r"^\w+ in fp16: cannot be built \(no kernel\)$"):
        build_in_precision(Unbuildable(refused=("in fp16",)).build, graph.check, "fp16", graph.half)


def test_a_requested_precision_is_built_or_an_error(graph: Graph):
    _, checked = build_in_precision(Faulty().build, graph.check, "fp16", graph.half)
    assert checked.precision == "fp16"
    broken = Faulty(graph.products()[:1])
    with pytest.raises(EmotionError, match=r"fp16 differs .*: use --precision ladder"):
        build_in_precision(broken.build, graph.check, "fp16", graph.half)
    assert len(broken.built) == 1
