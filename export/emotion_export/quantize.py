"""A float32 graph with int8 products, as QuantizeLinear and DequantizeLinear around each (QDQ).

Static, symmetric, one scale a column or channel of each weight, biases in float: what TensorRT takes without
a calibrator. Weights have seven bits of the eight: processors without VNNI add two products in 16 bits, which
overflow at eight (measured: a cosine of 0.79), and the eighth bit is worth little.

Spared are convolutions of pixels (the patch embedding was the worst place), what reads the graph's inputs
directly, and the products inside attention, which have no weights.
"""

import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx

from emotion_export.layers import GraphIndex, weighted_layers
from emotion_export.parity import Feed

_OPERATORS = ["MatMul", "Conv"]
_COLOURS = 3


def int8_layers(index: GraphIndex) -> dict[str, list[str]]:
    """Names of the nodes of each layer that may be quantised, by the layer's name."""
    inputs = {value.name for value in index.model.graph.input}
    nodes = {node.name: node for node in index.model.graph.node}
    return {
        layer: names
        for layer, names in weighted_layers(index).items()
        if all(
            nodes[name].op_type in _OPERATORS
            and nodes[name].input[0] not in inputs
            and not _sees_pixels(index, nodes[name])
            for name in names
        )
    }


def _sees_pixels(index: GraphIndex, node: onnx.NodeProto) -> bool:
    return node.op_type == "Conv" and index.constants[node.input[1]].dims[1] == _COLOURS


def calibrate(model: Path, feeds: Sequence[Feed]) -> Any:
    """Ranges of all tensors that a product reads, over all feeds: ONNX Runtime's `TensorsData`.

    The largest magnitude counts: of percentiles, too, the 99.999th was measured to give the same accuracy.
    """
    from onnxruntime.quantization import CalibrationMethod, create_calibrator  # noqa: PLC0415 (slow to import)

    with tempfile.TemporaryDirectory() as folder:  # of a copy of the graph with more outputs
        calibrator = create_calibrator(
            str(model),
            _OPERATORS,
            str(Path(folder) / "augmented.onnx"),
            CalibrationMethod.MinMax,
            extra_options={"symmetric": True},
        )
        calibrator.collect_data(_Reader(feeds))
        return calibrator.compute_data()


def quantise(model: onnx.ModelProto, ranges: Any, nodes: Collection[str]) -> onnx.ModelProto:
    """The graph with these nodes in int8; the model that is given stays as it is.

    ranges: of `calibrate`. nodes: names, of `int8_layers`.
    """
    from onnxruntime.quantization import QuantType  # noqa: PLC0415 (slow to import)
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer  # noqa: PLC0415

    result = onnx.ModelProto()
    result.CopyFrom(model)
    if not nodes:  # the quantiser takes an empty list for all
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
            "ActivationSymmetric": True,  # TensorRT refuses a zero point that is not zero
            "WeightSymmetric": True,
            "QuantizeBias": False,  # TensorRT refuses int32 biases
            "OpTypesToExcludeOutputQuantization": _OPERATORS,  # what follows adds a bias, in float
        },
    )
    quantizer.quantize_model()
    _spare_other_readers(quantizer.model.model, frozenset(nodes))
    quantizer.model.topological_sort()
    quantised: onnx.ModelProto = quantizer.model.model
    return quantised


def _spare_other_readers(model: onnx.ModelProto, nodes: frozenset[str]) -> None:
    """Give the tensor itself to all who read it beside a product: the quantiser gives them its int8 copy.

    One of them is the residual stream of a post-norm layer, which then would be rounded at each layer.
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


class _Reader:
    """`onnxruntime.quantization.CalibrationDataReader` over a list."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        feed = next(self._feeds, None)
        return None if feed is None else dict(feed)
