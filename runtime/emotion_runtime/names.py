"""Names that the command line, bundles and backends share. Imports neither NumPy nor any other package."""

from typing import Literal

GraphName = Literal["frame_encoder", "temporal_encoder"]
GRAPHS: tuple[GraphName, GraphName] = ("frame_encoder", "temporal_encoder")  # in the order they run

ReducedPrecision = Literal["fp16", "int8"]
Precision = Literal["fp32", ReducedPrecision]
EnginePrecision = Literal[Precision, "mixed"]  # "mixed": fp16 with some layers in fp32
# "ladder" is precision fallback: fp16, then fp16 with the worst layers in fp32, then fp32; the first that
# passes the parity check.
RequestedPrecision = Literal[Precision, "ladder"]

# What `--backend auto` times on live sources; "cpu" is always available.
TimedBackend = Literal["tensorrt", "tensorrt-rtx", "cuda", "openvino", "cpu"]

Blur = Literal["none", "faces", "persons"]  # who is hidden in the images that leave

LogFormat = Literal["text", "json"]

DetectorSize = int | Literal["auto"]  # long side of the detector's input in pixels
DetectEvery = float | Literal["auto"]  # mean time between two detections in seconds
