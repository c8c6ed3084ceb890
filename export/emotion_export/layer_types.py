"""The numeric types of the layers of a network, and of an engine."""

import json
import logging
import re
from collections import Counter
from typing import TYPE_CHECKING

from emotion_runtime.names import EnginePrecision

if TYPE_CHECKING:
    import tensorrt

LOWEST_FIRST: tuple[EnginePrecision, ...] = ("int8", "fp16", "fp32")

_TYPES = {"FLOAT": "fp32", "HALF": "fp16", "INT8": "int8", "BF16": "bf16"}
_ENGINE_WORDS = (
    (r"bf16|bfloat16", "bf16"),
    (r"half|fp16", "fp16"),
    (r"int8", "int8"),
    (r"float|fp32", "fp32"),
)

_log = logging.getLogger(__name__)


def network_types(network: "tensorrt.INetworkDefinition") -> dict[str, int]:
    """Return the number of layers by the type of their output, for a strongly typed network."""
    names = Counter(
        network.get_layer(i).get_output(0).dtype.name
        for i in range(network.num_layers)
        if network.get_layer(i).num_outputs
    )
    return {_TYPES.get(name, name.lower()): count for name, count in sorted(names.items())}


def engine_types(information: str) -> dict[str, int]:
    """Return the number of layers by the type of their output, read from a built engine.

    The inspector's names of a type differ between versions ("Half", "Row major linear FP16 format"); a layer
    with an unknown name counts as "other".

    Args:
        information: JSON of `IEngineInspector`, for an engine built with detailed verbosity.

    Returns:
        The numbers; empty if the text is not JSON, as with a weight that is "nan".
    """
    counts: Counter[str] = Counter()
    try:
        layers = json.loads(information)["Layers"]
    except ValueError as error:
        _log.warning("TensorRT's description of the engine cannot be read (%s)", error)
        return {}
    for layer in layers:
        outputs = layer.get("Outputs") if isinstance(layer, dict) else None
        if outputs:
            # TensorRT 11 has the type by itself.
            words = outputs[0].get("Format/Datatype") or outputs[0].get("DataType", "")
            types = (short for pattern, short in _ENGINE_WORDS if re.search(pattern, words, re.IGNORECASE))
            counts[next(types, "other")] += 1
    return dict(sorted(counts.items()))
