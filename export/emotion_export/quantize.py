"""Quantise a float32 graph to int8 with QuantizeLinear and DequantizeLinear around each product (QDQ).

The quantisation is static and symmetric with one scale per column or channel of a weight, and float biases:
TensorRT accepts this without a calibrator. Weights use 7 of 8 bits: processors without VNNI add two products
in 16 bits, which overflow with 8-bit weights (measured: a cosine of 0.79).

Not quantised are operators that read the inputs of the graph, the products inside attention, which have no
weights, and convolutions: ONNX Runtime has integer kernels only for those whose outputs and biases are
integers, too, and TensorRT refuses such biases. Otherwise it computes them in float, without the memory
layout that makes float convolutions fast: the graph was slower than fp32 (benchmarks/results/int8).
"""

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx

from emotion_export.graph_index import GraphIndex
from emotion_runtime.backends.base import Feeds

_OPERATORS = ["MatMul", "Conv"]


def int8_nodes(index: GraphIndex, operators: Collection[str] = ("MatMul",)) -> list[str]:
    """Return the names of the nodes of some operators that have a weight and do not read an input."""
    inputs = {value.name for value in index.model.graph.input}
    return [
        node.name
        for node in index.model.graph.node
        if node.op_type in operators and node.input[1] in index.constants and node.input[0] not in inputs
    ]


def calibrate(model: Path, feeds: Sequence[Feeds]) -> Any:
    """Return the ranges of all tensors that a product reads, over all feeds, as ONNX Runtime's `TensorsData`.

    A range is the largest magnitude. The 99.999th percentile gave the same accuracy.
    """
    from onnxruntime.quantization import CalibrationMethod, create_calibrator  # noqa: PLC0415 (slow to import)

    with tempfile.TemporaryDirectory() as folder:  # for a copy of the graph with more outputs
        calibrator = create_calibrator(
            str(model),
            _OPERATORS,
            str(Path(folder) / "augmented.onnx"),
            CalibrationMethod.MinMax,
            extra_options={"symmetric": True},
        )
        rest = iter(feeds)
        calibrator.collect_data(SimpleNamespace(get_next=lambda: next(map(dict, rest), None)))
        return calibrator.compute_data()


def quantise(model: onnx.ModelProto, ranges: Any, nodes: Collection[str]) -> onnx.ModelProto:
    """Return a float32 graph with some of `int8_nodes` in int8, with ranges from `calibrate`."""
    from onnxruntime.quantization import QuantType  # noqa: PLC0415 (slow to import)
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer  # noqa: PLC0415

    result = onnx.ModelProto()
    result.CopyFrom(model)
    if not nodes:  # the quantiser would treat an empty list as all nodes
        return result
    quantizer = QDQQuantizer(
        result,
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=ranges,
        nodes_to_quantize=list(nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=_OPERATORS,
        extra_options={
            "ActivationSymmetric": True,  # TensorRT accepts only a zero point of 0
            "WeightSymmetric": True,
            "QuantizeBias": False,  # TensorRT refuses int32 biases
            "OpTypesToExcludeOutputQuantization": _OPERATORS,  # the bias is added afterwards in float
        },
    )
    quantizer.quantize_model()
    _reconnect_float_readers(quantizer.model.model, frozenset(nodes))
    quantizer.model.topological_sort()
    quantised: onnx.ModelProto = quantizer.model.model
    return quantised


def _reconnect_float_readers(model: onnx.ModelProto, nodes: frozenset[str]) -> None:
    """Reconnect the nodes that are not quantised to the float tensors; the quantiser gives them int8 copies.

    One of them is the residual stream of a post-norm layer, which would otherwise be rounded at each layer.
    """
    origins = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    copies = {
        node.output[0]: origins[node.input[0]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in origins
    }
    for node in model.graph.node:
        if node.name not in nodes:
            node.input[:] = [copies.get(name, name) for name in node.input]
