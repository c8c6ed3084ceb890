"""Round the numbers of an event for JSON: more decimals would be noise."""

from typing import Any, TypeVar

import msgspec

from emotion_runtime.files import readable

# By field; the values inside a field have its decimals unless they are listed themselves.
_DECIMALS = {"t": 6, "latency_ms": 3, "box": 2, "filled": 3, "quality": 3}
_OTHERS = 8  # scores and probabilities; those of one person still sum to 1 within 1e-7

T = TypeVar("T", bound=msgspec.Struct)


def rounded(event: T) -> T:
    """Return a copy of an event, or of a part of one, as it is written to JSON.

    A `time` that is not known, and an `id` of 0, become `msgspec.UNSET`, which msgspec leaves out.
    """
    return _rounded_struct(event, _OTHERS)


def _rounded_struct(struct: T, decimals: int) -> T:
    values = {
        name: _rounded(getattr(struct, name), _DECIMALS.get(name, decimals))
        for name in struct.__struct_fields__
    }
    if values.get("time", 0) is None:
        values["time"] = msgspec.UNSET
    if values.get("id", 1) == 0:
        values["id"] = msgspec.UNSET
    return type(struct)(**values)


def _rounded(value: Any, decimals: int) -> Any:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, float):
        return round(value, decimals)
    if isinstance(value, msgspec.Struct):
        return _rounded_struct(value, decimals)
    if isinstance(value, list | tuple):
        return type(value)(_rounded(item, decimals) for item in value)
    if isinstance(value, dict):
        return {key: _rounded(item, decimals) for key, item in value.items()}
    return value
