"""The graph of a detector's network: it takes frames as they are, so normalisation is part of it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotion_runtime.detectors.constant_weights import make_weights_constant

INPUT = "frames_uint8"  # (batch, height, width, 3) uint8 BGR
BATCH = "batch"  # name of the first dimension where it is dynamic
_NAMES = (BATCH, "channels", "height", "width")

Size = tuple[int, int]  # height, width in pixels


@dataclass(frozen=True, slots=True)
class DetectorGraph:
    """A detector's network as an ONNX graph, from `take_frames`.

    Attributes:
        title: The detector in messages, such as "detector `face`".
        source: What `--detector` takes: "face" or a path.
        content: The serialised model.
        one_by_one: The graph takes one image in a run; otherwise any number.
    """

    title: str
    source: str
    content: bytes
    one_by_one: bool

    @property
    def stem(self) -> str:
        """The detector in names of files."""
        return Path(self.source).stem

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs, in order."""
        return [output.name for output in _parse(self.content).graph.output]

    @property
    def sha256(self) -> str:
        """Hash of the graph."""
        return hashlib.sha256(self.content).hexdigest()

    def at_size(self, size: Size) -> bytes:
        """Return the graph with a fixed size of the frames, as TensorRT and OpenVINO need to be fast."""
        model = _parse(self.content)
        for dim, length in zip(_dims(model.graph.input[0])[1:3], size, strict=True):
            dim.dim_value = length
        _forget_shapes(model)
        serialized: bytes = model.SerializeToString()
        return serialized


def take_frames(model: Any, title: str, source: str, *, rgb: bool, divisor: int = 1) -> DetectorGraph:
    """Return a network that takes images as a graph that takes frames.

    The sizes of frames are dynamic in the result, unless they are fixed in the model.

    Args:
        model: An `onnx.ModelProto` with the input (batch, 3, height, width) float32, changed in place.
        title: The detector in messages.
        source: What `--detector` takes.
        rgb: The network takes RGB, otherwise BGR.
        divisor: The network takes pixels in [0, 255 / divisor].
    """
    from onnx import TensorProto, helper  # noqa: PLC0415 - slow to import

    make_weights_constant(model)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}  # old files list them as inputs, too
    (images,) = (value for value in graph.input if value.name not in weights)
    # A cast must come first: TensorRT accepts uint8 as an input, but no other operator on it.
    nodes = [
        helper.make_node("Cast", [INPUT], [f"{INPUT}_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", [f"{INPUT}_float"], [f"{INPUT}_planes"], perm=[0, 3, 1, 2]),
    ]

    def add(operator: str, constant: Any, **attributes: Any) -> None:
        # The constant is a node, since old files list all others as inputs.
        last, by, result = nodes[-1].output[0], f"{INPUT}_{operator}_by", f"{INPUT}_{operator}"
        nodes.append(helper.make_node("Constant", [], [by], value=constant))
        nodes.append(helper.make_node(operator, [last, by], [result], **attributes))

    if rgb:
        add("Gather", helper.make_tensor("", TensorProto.INT64, [3], [2, 1, 0]), axis=1)
    if divisor != 1:
        add("Div", helper.make_tensor("", TensorProto.FLOAT, [], [divisor]))
    for node in nodes:
        node.name = node.output[0]
    nodes[-1].output[0] = images.name
    dims = [dim.dim_value or name for dim, name in zip(_dims(images), _NAMES, strict=True)]
    taken = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [dims[0], dims[2], dims[3], 3])
    others = [value for value in graph.input if value is not images]
    del graph.input[:]
    graph.input.extend([taken, *others])
    before = list(graph.node)
    for index, node in enumerate(before):  # the search for layers that stay in fp32 goes by names
        node.name = node.name or f"{node.op_type}_{index}"
    del graph.node[:]
    graph.node.extend([*nodes, *before])
    _forget_shapes(model)
    return DetectorGraph(title, source, model.SerializeToString(), one_by_one=dims[0] == 1)


def _dims(value: Any) -> Any:
    return value.type.tensor_type.shape.dim


def _forget_shapes(model: Any) -> None:
    """Remove the stated shapes of all results, which are those of another size."""
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]


def _parse(content: bytes) -> Any:
    import onnx  # noqa: PLC0415 - slow to import; only detectors need it

    return onnx.load_from_string(content)
