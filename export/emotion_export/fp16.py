"""Convert a float32 graph to a strongly typed float16 graph.

TensorRT 11 and TensorRT-RTX have no flag for fp16: the types of the graph define the precision of each layer.
With the flag of older versions, vision transformers come out silently wrong, because LayerNorm, softmax and
the residual stream lose precision in their sums. Here, matrix products, convolutions and the operators
between them are float16 with float16 weights; everything else stays float32, with a Cast wherever the two
meet. Inputs and outputs keep their types. In a quantised graph, what lies between DequantizeLinear and
QuantizeLinear is float16 in the same way: with float32 scales, TensorRT would compute it in float32.

ONNX Runtime's own converter (onnxruntime.transformers.float16) passes the parity check as well, but loses
more and makes more casts, see docs/export.md. It has no rule for the residual stream, which becomes float16,
and clips weights that float16 cannot hold. Given the nodes that are to stay float32, it casts every value
between two of them to float16 and back.
"""

from collections.abc import Collection, Iterable

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from emotion_export.graph_index import MATRIX_OPS, GraphIndex

# Operators that lose nothing in float16 if their input is float16. They take the type of their input, since a
# cast between two of them would only cost time.
_FOLLOWERS = frozenset({"Add", "Gelu", "Mul", "Relu"}) | frozenset(
    {"Concat", "Expand", "Gather", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
_LARGEST = float(np.finfo(np.float16).max)


def half_precision(model: onnx.ModelProto, *, keep: Collection[str] = ()) -> onnx.ModelProto:
    """Return the graph with float16 weights and matrix products; the given model is not changed.

    The sum of two computed tensors is the residual stream of a transformer and stays float32. In a
    convolutional block the sum is followed by a ReLU and does not grow from block to block, so it takes the
    type of its inputs.

    Args:
        model: The float32 graph.
        keep: Names of nodes that stay float32, such as those with the largest error; see `layer_search`.
    """
    index = GraphIndex(model)
    half = _half_nodes(index, frozenset(keep))
    halved_outputs = half & {value.name for value in model.graph.output}
    nodes: list[NodeProto] = []
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made: set[str] = set()

    def cast(source: str, target: str, to: int) -> None:
        nodes.append(helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to))

    def converted(name: str, *, to_half: bool) -> str:
        """Return the name of a tensor in the requested type, after adding it if necessary."""
        if not index.is_float(name) or to_half == (name in half):
            return name
        target = f"{name}_{'half' if to_half else 'float'}"
        if target not in made:
            made.add(target)
            if name in index.constants:
                values = index.array(name).astype(np.float16)
                constants[target] = numpy_helper.from_array(values, target)
            else:
                cast(name, target, TensorProto.FLOAT16 if to_half else TensorProto.FLOAT)
        return target

    for old in model.graph.node:
        new = NodeProto()
        new.CopyFrom(old)
        if old.op_type != "Shape":  # reads the size of a tensor and ignores its type
            # QuantizeLinear takes its type from what it reads: its output is int8.
            decides = old.input[0] if old.op_type == "QuantizeLinear" else old.output[0]
            new.input[:] = [converted(name, to_half=decides in half) for name in old.input]
        new.output[:] = [f"{name}_half" if name in halved_outputs else name for name in old.output]
        nodes.append(new)
        for name in halved_outputs.intersection(old.output):  # outputs of the graph stay float32
            cast(f"{name}_half", name, TensorProto.FLOAT)
    read = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in constants.values() if tensor.name in read]
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, weights)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _half_nodes(index: GraphIndex, keep: frozenset[str]) -> frozenset[str]:
    """Return the first outputs of the nodes that compute in float16."""
    half: set[str] = set()
    for node in index.model.graph.node:  # nodes are sorted topologically
        floats = [name for name in node.input if index.is_float(name)]
        computed = [name for name in floats if name not in index.constants]
        if node.op_type == "DequantizeLinear" and node.name not in keep:
            half.update(node.output)  # whatever follows, up to the next QuantizeLinear, is not float32
            continue
        if node.name in keep or not computed or not _fits(index, set(floats) - set(computed)):
            continue
        follows = (
            node.op_type in _FOLLOWERS and half.issuperset(computed) and not _residual(index, node, computed)
        )
        if node.op_type in MATRIX_OPS or follows:
            half.update(node.output)
    return frozenset(half)


def _residual(index: GraphIndex, node: NodeProto, computed: list[str]) -> bool:
    users = [user.op_type for user in index.users.get(node.output[0], [])]
    return node.op_type in ("Add", "Mul") and len(computed) > 1 and users != ["Relu"]


def _fits(index: GraphIndex, constants: Iterable[str]) -> bool:
    """Return whether float16 can represent all values; a weight that overflows would be infinite."""
    return all(np.abs(index.array(name)).max(initial=0) <= _LARGEST for name in constants)
