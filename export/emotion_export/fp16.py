"""A float32 graph as a strongly typed float16 one: what is computed in how many bits stands in the graph.

TensorRT 11 and TensorRT-RTX have no switch for fp16, and where older ones have it, a vision transformer comes
out silently wrong: LayerNorm, softmax and the residual stream lose what they add up. So matrix products,
convolutions and what lies between them are float16 here, with float16 weights, and the rest stays float32,
with a Cast wherever the two meet. Inputs and outputs stay as they were.
"""

from collections.abc import Collection, Iterable

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from emotion_export.layers import MATRIX_OPS, GraphIndex

# Operators that are as exact in float16 as their input is. They follow it: a cast between two of them would
# only cost time.
_FOLLOWERS = frozenset(
    {
        "Add",
        "Concat",
        "Expand",
        "Gather",
        "Gelu",
        "Mul",
        "Relu",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
_LARGEST = float(np.finfo(np.float16).max)
_TYPE_BLIND = frozenset({"Shape"})  # read the size of a tensor, whatever its type


def half_precision(model: onnx.ModelProto, *, keep: Collection[str] = ()) -> onnx.ModelProto:
    """The graph with float16 weights and matrix products; the model that is given stays as it is.

    keep: names of nodes that stay float32, for the layers whose error is worst; see `weighted_layers`.
    A sum of two computed tensors is the residual stream of a transformer, and stays float32; that of a
    convolutional block is cut off by its ReLU and does not grow from block to block: it follows its inputs.
    """
    index = GraphIndex(model)
    half = _half_nodes(index, frozenset(keep))
    rewrite = _Rewrite(index, half)
    for node in model.graph.node:
        rewrite.add(node)
    read = {name for node in rewrite.nodes for name in node.input}
    constants = (*model.graph.initializer, *rewrite.constants.values())
    graph = helper.make_graph(
        rewrite.nodes,
        model.graph.name,
        model.graph.input,
        model.graph.output,
        [tensor for tensor in constants if tensor.name in read],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _half_nodes(index: GraphIndex, keep: frozenset[str]) -> frozenset[str]:
    """First outputs of the nodes that compute in float16."""
    half: set[str] = set()
    for node in index.model.graph.node:  # in an order in which inputs come before what reads them
        floats = [name for name in node.input if index.is_float(name)]
        computed = [name for name in floats if name not in index.constants]
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
    """Whether float16 can hold the values: a weight that overflows would make everything infinite."""
    return all(np.abs(index.array(name)).max(initial=0) <= _LARGEST for name in constants)


class _Rewrite:
    """Nodes and constants of the new graph, in the making. half: names of the tensors that become float16."""

    def __init__(self, index: GraphIndex, half: frozenset[str]) -> None:
        self._index = index
        self._half = half
        self._outputs = {value.name for value in index.model.graph.output}
        self._casts: set[str] = set()
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def add(self, node: NodeProto) -> None:
        """Append a node, with the casts that its inputs need."""
        new = NodeProto()
        new.CopyFrom(node)
        if node.op_type not in _TYPE_BLIND:
            wants_half = node.output[0] in self._half
            new.input[:] = [self._as(name, half=wants_half) for name in node.input]
        ends = [name for name in node.output if name in self._outputs & self._half]
        new.output[:] = [f"{name}_half" if name in ends else name for name in node.output]
        self.nodes.append(new)
        for name in ends:  # the caller gets float32
            self._cast(f"{name}_half", name, TensorProto.FLOAT)

    def _as(self, name: str, *, half: bool) -> str:
        """Name under which a tensor can be had in the type that is wanted."""
        if not self._index.is_float(name) or half == (name in self._half):
            return name
        made = f"{name}_{'half' if half else 'float'}"
        if name in self._index.constants:
            if made not in self.constants:
                values = self._index.array(name).astype(np.float16)
                self.constants[made] = numpy_helper.from_array(values, made)
        elif made not in self._casts:
            self._casts.add(made)
            self._cast(name, made, TensorProto.FLOAT16 if half else TensorProto.FLOAT)
        return made

    def _cast(self, source: str, target: str, to: int) -> None:
        self.nodes.append(helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to))
