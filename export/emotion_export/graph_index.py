"""Index an ONNX graph: the look-ups needed to rewrite it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

MATRIX_OPS = frozenset({"MatMul", "Gemm", "Conv"})

_SMALL = 1024  # bytes


@dataclass(frozen=True)
class GraphIndex:
    """Constants, users and types of the tensors of a model, by tensor name. The model is never changed."""

    model: onnx.ModelProto

    @cached_property
    def constants(self) -> Mapping[str, TensorProto]:
        """Return the initializers by name."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def users(self) -> Mapping[str, list[NodeProto]]:
        """Return the nodes that read each tensor."""
        users: dict[str, list[NodeProto]] = {}
        for node in self.model.graph.node:
            for name in dict.fromkeys(node.input):
                users.setdefault(name, []).append(node)
        return users

    @cached_property
    def types(self) -> Mapping[str, int]:
        """Return the `TensorProto` data type of every tensor of the graph."""
        graph = onnx.shape_inference.infer_shapes(_without_weights(self.model)).graph
        types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            types[value.name] = value.type.tensor_type.elem_type
        return types

    def array(self, name: str) -> NDArray[np.float32]:
        """Return the values of a constant."""
        return np.asarray(numpy_helper.to_array(self.constants[name]))

    def is_float(self, name: str) -> bool:
        """Return whether a tensor, computed or constant, is float32."""
        return self.types.get(name) == TensorProto.FLOAT


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with its large weights as inputs.

    Shape inference copies the model twice, but does not read the weights.
    """
    graph = model.graph
    # A shape or an axis, which shape inference reads, is small.
    large = [tensor for tensor in graph.initializer if tensor.ByteSize() > _SMALL]
    small = [tensor for tensor in graph.initializer if tensor.ByteSize() <= _SMALL]
    inputs = [helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in large]
    light = helper.make_graph(graph.node, graph.name, [*graph.input, *inputs], graph.output, small)
    return helper.make_model(light, opset_imports=model.opset_import, ir_version=model.ir_version)
