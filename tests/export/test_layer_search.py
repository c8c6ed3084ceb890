import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from emotion_export.graph_index import MATRIX_OPS
from emotion_export.layer_search import (
    Stage,
    find_stages,
    keep_worst_in_fp32,
    stage_errors,
    with_probes,
    worst_first,
)
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import load_bundle
from emotion_runtime.names import GRAPHS, GraphName

# Each stage reads the one before and multiplies its error by a factor; the first one, that of rounding.
STAGES = [Stage(f"end {i}", (f"a{i}", f"b{i}"), (i - 1,) if i else ()) for i in range(16)]
FACTORS = np.random.default_rng(0).permutation(np.arange(1, 17)).astype(float)
ERRORS = list(np.cumprod(FACTORS) * 2.0**-10)
WORST = [int(i) for i in np.argsort(-FACTORS)]


class Graph:
    """Passes if the given number of the worst stages stays in fp32."""

    def __init__(self, needed: int) -> None:
        self.needed = needed
        self.tried: list[int] = []

    def passes(self, kept: frozenset[str]) -> bool:
        stages = {int(node[1:]) for node in kept}
        assert kept == {node for stage in stages for node in STAGES[stage].nodes}
        self.tried.append(len(stages))
        return stages >= set(WORST[: self.needed])


@pytest.mark.parametrize("needed", [1, 2, 7, 8, 15])
def test_as_few_of_the_worst_as_possible_are_kept(needed: int):
    kept = keep_worst_in_fp32(STAGES, lambda: ERRORS, Graph(needed).passes)
    assert kept == {node for stage in WORST[:needed] for node in STAGES[stage].nodes}


def test_nothing_is_measured_where_nothing_is_wrong():
    def unused() -> list[float]:
        raise AssertionError("errors were measured")

    assert keep_worst_in_fp32(STAGES, unused, Graph(0).passes) == frozenset()


def test_keeping_every_stage_is_not_a_reduction():
    graph = Graph(16)
    assert keep_worst_in_fp32(STAGES, lambda: ERRORS, graph.passes) is None
    assert 16 not in graph.tried
    assert keep_worst_in_fp32([], list, Graph(1).passes) is None


def test_the_search_is_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    keep_worst_in_fp32(STAGES, lambda: ERRORS, Graph(5).passes)
    assert caplog.messages[:2] == [
        "with the 8 worst of 16 stages in fp32: within tolerance",
        "with the 4 worst of 16 stages in fp32: not within tolerance",
    ]


@pytest.mark.parametrize(("needed", "kept"), [(1, 4), (4, 4), (5, 8), (8, 8), (9, 12), (13, None)])
def test_a_search_with_few_attempts_keeps_more_than_necessary(needed: int, kept: int | None):
    graph = Graph(needed)
    found = keep_worst_in_fp32(STAGES, lambda: ERRORS, graph.passes, attempts=2)
    assert (None if found is None else len(found) // 2) == kept
    assert len(graph.tried) == 1 + 2
    assert found is None or graph.passes(found)


def test_a_stage_is_blamed_for_what_it_makes_of_the_error_it_is_given():
    #  0 -> 1 -> 3, 2 -> 3: stage 1 inherits all of its error, stage 2 is as bad by itself.
    # And what is wrong early grows: stage 3 has the largest error, and made the least of it.
    stages = [
        Stage("a", ("n0",), ()),
        Stage("b", ("n1",), (0,)),
        Stage("c", ("n2",), ()),
        Stage("d", ("n3",), (1, 2)),
        Stage("e", (), (3,)),  # nothing in it that could be kept in fp32
    ]
    assert worst_first(stages, [0.3, 0.31, 0.2, 0.6, 0.9]) == [0, 2, 3, 1]
    assert worst_first(stages, [0.01, np.nan, 0.2, np.inf, np.nan]) == [1, 2, 0, 3]
    # Below rounding there is nothing to blame anyone for.
    assert worst_first(stages, [1e-9, 1e-5, 0.2, 0.2, 0.2])[0] == 2


def test_stages_end_where_a_layer_normalization_reads():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("LayerNormalization", ["a", "g"], ["b"], name="ln"),
        helper.make_node("MatMul", ["b", "w"], ["c"], name="second"),
        helper.make_node("Relu", ["c"], ["d"], name="relu"),
        helper.make_node("MatMul", ["d", "w"], ["e"], name="third"),
        helper.make_node("Add", ["a", "e"], ["f"], name="residual"),
        helper.make_node("LayerNormalization", ["f", "g"], ["y"], name="ln2"),
    ]
    shape = ["P", 2]
    body = helper.make_graph(
        nodes,
        "stages",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(np.eye(2, dtype=np.float32), "w"),
            numpy_helper.from_array(np.ones(2, np.float32), "g"),
        ],
    )
    first, second, last = find_stages(helper.make_model(body))
    assert (first.probe, first.nodes, first.before) == ("a", ("first",), ())
    assert (second.probe, set(second.nodes), second.before) == ("f", {"second", "third"}, (0,))
    assert (last.probe, last.nodes, last.before) == ("y", (), (1,))


@pytest.mark.parametrize("graph", GRAPHS)
def test_every_matrix_product_is_in_one_stage(graph: GraphName):
    model = onnx.load(load_bundle("nano").graph_path(graph))
    in_stages = [node for stage in find_stages(model) for node in stage.nodes]
    everywhere = [node.name for node in model.graph.node if node.op_type in MATRIX_OPS]
    assert sorted(in_stages) == sorted(everywhere)
    assert len(find_stages(model)) >= 5


def test_the_error_of_each_stage_is_read_from_one_run():
    model = onnx.load(load_bundle("nano").graph_path("temporal_encoder"))
    stages = find_stages(model)
    wrong = onnx.ModelProto.FromString(model.SerializeToString())
    broken = next(stage for stage in stages[1:] if stage.nodes)
    weights = {tensor.name: tensor for tensor in wrong.graph.initializer}
    (product,) = (node for node in wrong.graph.node if node.name == broken.nodes[0])
    weight = weights[product.input[1]]
    weight.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(weight), weight.name))
    feed = {"embeddings": np.random.default_rng(1).normal(size=(3, 8, 256)).astype(np.float32)}
    runs = [OnnxBackend(with_probes(each, stages).SerializeToString()).run(feed) for each in (model, wrong)]
    errors = stage_errors(stages, *runs)
    at = stages.index(broken)
    assert max(errors[:at], default=0) == 0 < errors[at]
    assert worst_first(stages, errors)[0] == at
    expected, found = (run[broken.probe].astype(float) for run in runs)
    difference = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert errors[at] == pytest.approx(difference)
