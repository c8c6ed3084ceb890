"""The description of an engine, a JSON file beside it: what it is for, and the result of its parity check."""

import hashlib
from typing import Literal

import msgspec

from emotion_runtime.manifest import Parity
from emotion_runtime.names import EnginePrecision, RequestedPrecision
from emotion_runtime.tensorrt.gpu import Gpu

SIDECAR_SCHEMA = 1


class EngineKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"images": "pictures"}):
    """What an engine is for. A different value in any field means a different engine.

    Attributes:
        graph: Name of the graph.
        sources: SHA-256 of the ONNX files that the engine is built from, by precision. If the bundle has no
            fp16 graph, the version of the program that derives one.
        builder: See `gpu.builder_name`.
        gpu: Name of the GPU; empty if built ahead of time for every GPU of the compute capability.
        compute_capability: For example "8.6"; of an engine for several, "8.0 8.6".
        precision: The precision that was requested.
        persons: Maximum number of people of one run.
        images: Maximum number of images of one run. Called "pictures" in the file.
    """

    graph: str
    sources: dict[str, str]
    builder: str
    gpu: str
    compute_capability: str
    precision: RequestedPrecision
    persons: int
    images: int

    @property
    def stem(self) -> str:
        """Name of the engine's files, without the suffix."""
        text = msgspec.json.encode(self, order="sorted")
        return f"{self.graph}-{hashlib.sha256(text).hexdigest()[:16]}"


class CheckResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"status": "parity_gate"}):
    """Result of the parity check of an engine.

    It holds for one GPU and driver: an engine that passes there may fail on another GPU of the same compute
    capability, or with another driver.

    Attributes:
        status: Whether the check was run. Called "parity_gate" in the file.
        parity: One row per batch size; empty if not run.
        gpu: Name of the GPU on which parity was checked, see `gpu.Gpu`.
        driver: Driver with which parity was checked, see `gpu.Gpu`.
    """

    status: Literal["passed", "not run"]
    parity: list[Parity] = []
    gpu: str = ""
    driver: str = ""

    def is_valid_on(self, gpu: Gpu) -> bool:
        """Return whether the engine may run on a GPU without another parity check."""
        return self.status == "passed" and (self.gpu, self.driver) == (gpu.name, gpu.driver)


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"check": "verdict"}):
    """The description of an engine, stored beside it.

    Attributes:
        schema: Version of this format.
        key: What the engine is for.
        sha256: Hash of the engine.
        size: Size of the engine in bytes.
        precision: What the engine computes in.
        check: Result of the parity check. Called "verdict" in the file.
        fp32_layers: Nodes of the graph that "mixed" keeps in fp32.
        layer_types: Number of layers by the type of their output.
        layer_types_of: Where `layer_types` was read: the built engine, or the typed network if there was no
            GPU to load the engine.
        refused: One line for each engine that precision fallback built and rejected.
        build_seconds: Time of the build, in seconds.
    """

    schema: int
    key: EngineKey
    sha256: str
    size: int
    precision: EnginePrecision
    check: CheckResult
    fp32_layers: list[str]
    layer_types: dict[str, int]
    layer_types_of: Literal["engine", "network"]
    refused: list[str]
    build_seconds: float
