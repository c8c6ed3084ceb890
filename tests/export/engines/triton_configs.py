"""Configurations of models in a Triton repository, read as the server reads them."""

from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf import text_format

NUMPY = {"TYPE_UINT8": "uint8", "TYPE_INT64": "int64", "TYPE_FP32": "float32"}


def config(schema: ModuleType, folder: Path) -> Any:
    """Parsed as the server does: an unknown field or a value of another type is an error."""
    text = (folder / "config.pbtxt").read_text()
    return text_format.Parse(text, schema.ModelConfig())


def tensors(schema: ModuleType, stated: Any) -> dict[str, tuple[str, list[int]]]:
    return {t.name: (NUMPY[schema.DataType.Name(t.data_type)], list(t.dims)) for t in stated}
