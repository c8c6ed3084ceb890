"""The numeric types of the layers of a network, and of an engine."""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from emotion_runtime.names import EnginePrecision

if TYPE_CHECKING:
    import tensorrt

LOWEST_FIRST: tuple[EnginePrecision, ...] = ("int8", "fp16", "fp32")

_WORDS = (
    (r"bf16|bfloat16", "bf16"),
    (r"half|fp16", "fp16"),
    (r"\bint8", "int8"),
    (r"float|fp32", "fp32"),
)

_log = logging.getLogger(__name__)


def network_types(network: "tensorrt.INetworkDefinition") -> dict[str, int]:
    """Return the number of layers by the type of their output, for a strongly typed network."""
    layers = (network.get_layer(i) for i in range(network.num_layers))
    return _count(layer.get_output(0).dtype.name for layer in layers if layer.num_outputs)


def engine_types(information: str) -> dict[str, int]:
    """Return the number of layers by the type of their output, read from a built engine.

    Args:
        information: JSON of `IEngineInspector`, for an engine built with detailed verbosity.

    Returns:
        The numbers; empty if the text is not JSON, as with a weight that is "nan".
    """
    try:
        layers = json.loads(information)["Layers"]
    except ValueError as error:
        _log.warning("TensorRT's description of the engine cannot be read (%s)", error)
        return {}
    outputs = (layer.get("Outputs") for layer in layers if isinstance(layer, dict))
    # TensorRT 11 has the type by itself.
    return _count(each[0].get("Format/Datatype") or each[0].get("DataType", "") for each in outputs if each)


def _count(names: Iterable[str]) -> dict[str, int]:
    """Count types by their short names, sorted; one of none of `_WORDS` is "other".

    The names differ between versions: "HALF", "Half", "Row major linear FP16 format".
    """
    counts: Counter[str] = Counter()
    for name in names:
        found = (short for pattern, short in _WORDS if re.search(pattern, name, re.IGNORECASE))
        counts[next(found, "other")] += 1
    return dict(sorted(counts.items()))
