"""The graphs that engines are built from, in the precision of the engine."""

import hashlib
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from emotion_export.fp16 import half_precision
from emotion_runtime.bundle import Bundle
from emotion_runtime.detectors.graph import Size
from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.errors import EmotionError
from emotion_runtime.names import EnginePrecision, GraphName


def read_model(path: Path, sha256: str | None = None) -> onnx.ModelProto:
    """Read an ONNX file, and check its SHA-256 if one is given.

    Raises:
        EmotionError: The file cannot be read, is not an ONNX file, or has changed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EmotionError(f"{path} cannot be read ({error.strerror}): expected an ONNX file") from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise EmotionError(f"{path} changed while engines were built: run this again")
    try:
        return onnx.load_from_string(content)
    except DecodeError as error:
        raise EmotionError(
            f"{path} is not an ONNX file ({error}): expected one of emotion-export onnx"
        ) from error


def detector_graph(detector: NetworkDetector, size: Size, precision: EnginePrecision) -> onnx.ModelProto:
    """Return the graph of a detector for frames of one size (height, width), in a precision."""
    model = onnx.load_from_string(detector.graph.at_size(size))
    return half_precision(model) if precision == "fp16" else model


def encoder_graph(bundle: Bundle, name: GraphName, precision: EnginePrecision) -> onnx.ModelProto:
    """Return the graph in a precision; fp16 is made from fp32 if the bundle does not have it.

    int8 has fp16 between its integer products, which the bundle's own int8 graph, made for CPUs, does not.
    """
    graph = bundle.manifest.graphs[name]
    stated = next((variant for each, variant in graph.variants.items() if each == precision), graph)
    path = bundle.folder / stated.file
    model = read_model(path, stated.sha256)
    for value in model.graph.input:  # such a build would take minutes, for one number of people
        batch = value.type.tensor_type.shape.dim[0]
        if batch.HasField("dim_value"):
            raise EmotionError(
                f"{path}: input {value.name} has a fixed batch of {batch.dim_value}, expected any number: "
                "export the bundle again with emotion-export onnx"
            )
    derived = precision == "int8" or (precision == "fp16" and stated is graph)
    return half_precision(model) if derived else model
