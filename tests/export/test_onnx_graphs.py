from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exported import Exported
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from emotion_export.onnx import OPSET, check_graph, describe_graph
from emotion_export.parity import TOLERANCES
from emotion_runtime.errors import EmotionError
from emotion_train.model import EmotionCLIP

pytestmark = pytest.mark.slow

SUBJECTS = ("shared", "sap", "sap with bias", "none")
Encoders = Callable[[str], tuple[EmotionCLIP, Path]]


def batch(pictures: int, persons: int) -> dict[str, NDArray[np.generic]]:
    """Every second person is nowhere in the picture."""
    rng = np.random.default_rng([pictures, persons])
    weights = rng.random((persons, 49), np.float32)
    weights[1::2] = 0
    return {
        "images": rng.integers(0, 256, (pictures, 112, 112, 3), dtype=np.uint8),
        "frame_index": rng.integers(0, pictures, persons),
        "patch_weights": weights,
    }


def by_formula(model: EmotionCLIP, feed: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    """The torch model on pictures normalised here, one person at a time."""
    pixels = torch.from_numpy(feed["images"]).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    weights = torch.from_numpy(feed["patch_weights"])
    rows = [
        model.encode_frames(((pixels - mean) / std)[i : i + 1], weights[person : person + 1])
        for person, i in enumerate(feed["frame_index"].tolist())
    ]
    return torch.cat(rows).numpy()


def assert_parity(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    tolerance = TOLERANCES["fp32"]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance.max_abs
    assert np.abs(found - expected).mean() <= tolerance.mean_abs


@pytest.mark.parametrize("subject", SUBJECTS)
def test_any_number_of_images_and_people(frame_encoders: Encoders, subject: str):
    model, path = frame_encoders(subject)
    session = onnxruntime.InferenceSession(path)
    for pictures, persons in ((1, 1), (1, 3), (1, 8), (2, 1), (2, 3), (2, 8), (3, 1), (3, 3), (3, 8)):
        feed = batch(pictures, persons)
        (found,) = session.run(["embeddings"], feed)
        assert_parity(found, by_formula(model, feed))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_subject_changes_the_output(frame_encoders: Encoders, subject: str):
    """Or equality with torch on the persons above could be equality of two who ignore them."""
    _, path = frame_encoders(subject)
    weights = np.eye(49, dtype=np.float32)[[0, 24, 48]]
    feed = {**batch(1, 3), "patch_weights": np.concatenate([weights, 0 * weights[:1]])}
    feed["frame_index"] = np.zeros(4, np.int64)
    (found,) = onnxruntime.InferenceSession(path).run(None, feed)
    differences = np.abs(found[:, None] - found[None]).max(axis=2)[np.triu_indices(4, 1)]
    if subject == "none":
        assert differences.max() == 0
    else:
        assert differences.min() > 100 * TOLERANCES["fp32"].max_abs


def test_the_graphs_are_plain_onnx(nano: Exported, frame_encoders: Encoders):
    paths = [nano.folder / "temporal_encoder.onnx"]
    paths += [frame_encoders(subject)[1] for subject in SUBJECTS]
    for path in paths:
        model = onnx.load(path)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
        nodes = model.graph.node
        kinds = Counter(node.op_type for node in nodes)
        assert {node.domain for node in nodes} == {""}
        assert not kinds.keys() & {
            "BatchNormalization",
            "ReduceMean",
            "Erf",
            "GatherND",
            "Attention",
            "If",
        } - (
            {"ReduceMean"} if "temporal" in path.name else set()  # the mean over time
        )
        assert kinds["LayerNormalization"]
        assert kinds["Gelu"]
        used = {name for node in nodes for name in node.input} | {o.name for o in model.graph.output}
        assert {tensor.name for tensor in model.graph.initializer} <= used
        assert all(set(node.output) & used for node in nodes)
        types = {tensor.data_type for tensor in model.graph.initializer}
        assert types <= {TensorProto.FLOAT, TensorProto.INT64}
        for place in (b"/emotion_train/", b"site-packages", b".py"):  # of the machine that exported
            assert place not in path.read_bytes()


def test_each_image_passes_the_stem_once(nano: Exported):
    """The stem has 10 convolutions; nothing else has any, and their number does not grow with persons."""
    graph = onnx.load(nano.folder / "frame_encoder.onnx").graph
    assert sum(node.op_type == "Conv" for node in graph.node) == 10
    first = [node.op_type for node in graph.node if "images" in node.input]
    assert first == ["Cast"]  # TensorRT refuses arithmetic on uint8


def inferred(path: Path) -> tuple[onnx.GraphProto, dict[str, list[int | str]]]:
    """The graph and the shape of each of its tensors."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return graph, {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


@pytest.mark.parametrize(("subject", "layers"), [("shared", 3), ("sap", 2), ("none", 2)])
def test_the_last_block_computes_one_row_a_person(frame_encoders: Encoders, subject: str, layers: int):
    """Of attention and MLP, that is; its keys and values are of all rows, and so are all other blocks."""
    graph, shapes = inferred(frame_encoders(subject)[1])
    # A row a person, or a picture: (1, P, width) where all rows are one matrix, else (P, 1, width).
    rows = [shapes[node.output[0]][:-1] for node in graph.node if node.op_type == "Gelu"]
    one = {"shared": [1, "P"], "sap": ["P", 1], "none": ["F", 1]}[subject]
    assert len(rows) == layers
    assert rows[-1] == one
    assert one not in rows[:-1]
    queries = [shapes[node.input[0]][-2] for node in graph.node if node.op_type == "Softmax"]
    assert queries.count(1) == 1
    assert queries[-1] == 1


def test_what_is_constant_is_computed_at_export(nano: Exported, frame_encoders: Encoders):
    for path in (nano.folder / "temporal_encoder.onnx", *(frame_encoders(s)[1] for s in SUBJECTS)):
        graph = onnx.load(path).graph
        constants = {tensor.name for tensor in graph.initializer}
        assert not [node.name for node in graph.node if constants.issuperset(node.input)]
        assert len(graph.output) == 1


def test_files_describe_themselves(nano: Exported):
    graph = describe_graph(nano.folder / "frame_encoder.onnx")
    assert [(t.name, t.dtype, t.shape) for t in graph.inputs] == [
        ("images", "uint8", ["F", 112, 112, 3]),
        ("frame_index", "int64", ["P"]),
        ("patch_weights", "float32", ["P", 49]),
    ]
    assert [(t.name, t.dtype, t.shape) for t in graph.outputs] == [("embeddings", "float32", ["P", 256])]
    graph = describe_graph(nano.folder / "temporal_encoder.onnx")
    assert [(t.name, t.dtype, t.shape) for t in graph.inputs] == [("embeddings", "float32", ["P", 8, 256])]
    assert [(t.name, t.dtype, t.shape) for t in graph.outputs] == [("features", "float32", ["P", 256])]


def faulty(fault: str) -> onnx.ModelProto:
    """y = x + one, with one fault."""
    nodes = [helper.make_node("Add", ["x", "one"], ["y"], name="add")]
    constants = {"one": np.ones(1, np.float32)}
    opsets = [helper.make_opsetid("", 17 if fault == "opset" else OPSET)]
    if fault == "unused constant":
        constants["extra"] = np.ones(1, np.float32)
    elif fault == "unused result":
        nodes.append(helper.make_node("Neg", ["x"], ["nobody"], name="neg"))
    elif fault == "float64":
        nodes = [
            helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE),
            helper.make_node("Cast", ["wide"], ["y"], to=TensorProto.FLOAT),
        ]
        constants = {}
    elif fault == "custom operator":
        nodes = [helper.make_node("BiasGelu", ["x", "one"], ["y"], domain="com.microsoft")]
        opsets.append(helper.make_opsetid("com.microsoft", 1))
    elif fault == "BatchNormalization":
        nodes = [helper.make_node("BatchNormalization", ["x", "one", "one", "one", "one"], ["y"], name="bn")]
    elif fault == "not valid":
        nodes[0].input[1] = "nothing"
    shape = ["P", 1, 2, 2]
    graph = helper.make_graph(
        nodes,
        "faulty",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@pytest.mark.parametrize(
    "fault",
    [
        "opset",
        "unused constant",
        "unused result",
        "float64",
        "custom operator",
        "BatchNormalization",
        "not valid",
    ],
)
def test_faulty_graphs_are_refused(tmp_path: Path, fault: str):
    onnx.save(faulty(fault), tmp_path / "graph.onnx")
    with pytest.raises(EmotionError, match=f"graph.onnx.*{fault}") as error:
        check_graph(tmp_path / "graph.onnx")
    assert "\n" not in str(error.value)
    onnx.save(faulty("none"), tmp_path / "graph.onnx")
    check_graph(tmp_path / "graph.onnx")
