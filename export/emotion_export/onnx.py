"""Export a torch module to an ONNX file for ONNX Runtime and TensorRT, and check the file."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnx_ir.passes.common as ir_passes
import onnxscript.optimizer
import torch
from onnxscript import opset20 as op

from emotion_export.graphs import GraphSource
from emotion_runtime.bundle import sha256_of
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import Graph, Tensor, Variant
from emotion_runtime.names import Precision

# Opset 20 has Gelu and LayerNormalization (since 17) as single nodes, which keeps fp16 builders accurate. It
# is the newest that TensorRT 10.3 (JetPack 6) reads; from 23 on, attention is a node that TensorRT refuses.
OPSET = 20

# Largest constant to fold, in elements: a weight matrix is transposed now and not at each start.
_ANY_SIZE = 1 << 31
_FIX = "export with the versions of torch and onnxscript in pyproject.toml"


def write_graph(source: GraphSource, path: Path) -> None:
    """Export a graph into one ONNX file, optimise and check it.

    Raises:
        EmotionError: The file contains something that not every backend supports; see `check_graph`.
    """
    program = torch_program(source, {torch.ops.aten.scaled_dot_product_attention.default: _attention})
    onnxscript.optimizer.optimize(program.model, input_size_limit=_ANY_SIZE, output_size_limit=_ANY_SIZE)
    # Strip the paths of local source files from the metadata.
    ir_passes.ClearMetadataAndDocStringPass()(program.model)
    program.model.ir_version = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", OPSET)])
    program.save(str(path), external_data=False)
    check_graph(path)


def torch_program(
    source: GraphSource, translations: Mapping[Callable[..., Any], Callable[..., Any]] = MappingProxyType({})
) -> torch.onnx.ONNXProgram:
    """Return a graph as `torch.onnx.export` writes it.

    Args:
        source: The graph.
        translations: How operators of torch are written, other than by default.
    """
    symbols = {name: torch.export.Dim(name) for name in set(source.dynamic.values())}
    with warnings.catch_warnings():
        # Two inputs share a symbol on purpose.
        warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
        program = torch.onnx.export(
            source.module,
            tuple(source.inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(source.inputs),
            output_names=[source.output],
            dynamic_shapes=tuple({0: symbols[source.dynamic[name]]} for name in source.inputs),
            custom_translation_table=dict(translations),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    return program


def save_graph(model: onnx.ModelProto, path: Path, precision: Precision) -> Variant:
    """Write a graph that was converted to another precision, check it and return its entry for the manifest.

    Raises:
        EmotionError: The graph is not valid; see `check_graph`.
    """
    onnx.save(model, path)
    check_graph(path, precision)
    return Variant(path.name, sha256_of(path), _opset(model))


def check_graph(path: Path, precision: Precision = "fp32") -> None:
    """Check that a file is valid ONNX with standard operators of one precision and without unused parts.

    Raises:
        EmotionError: A check failed.
    """
    model = onnx.load(path)
    try:
        onnx.checker.check_model(str(path), full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EmotionError(f"{path.name} is not valid: {' '.join(str(error).split())}; {_FIX}") from error
    graph = inferred.graph
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    made = {name for node in graph.node for name in node.output if name}
    faults = {
        "opset": [f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import if not _expected(o)],
        "custom operator": [node.op_type for node in graph.node if node.domain],
        "function": [function.name for function in model.functions],
        "BatchNormalization that was not folded": [
            node.name for node in graph.node if node.op_type == "BatchNormalization"
        ],
        "float64": _of_type(graph, onnx.TensorProto.DOUBLE),
        "float16": _of_type(graph, onnx.TensorProto.FLOAT16) if precision != "fp16" else [],
        "float16 input or output": [
            t.name
            for t in (*graph.input, *graph.output)
            if t.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
        ],
        "unused constant": [t.name for t in graph.initializer if t.name not in used],
        "unused result": [
            node.name for node in graph.node if not any(name in used for name in node.output if name)
        ],
        "output that no node computes": [output.name for output in graph.output if output.name not in made],
    }
    found = [f"{fault} ({', '.join(names[:5])})" for fault, names in faults.items() if names]
    if found:
        raise EmotionError(f"{path.name}: {'; '.join(found)}; expected none: {_FIX}")


def describe_graph(path: Path) -> Graph:
    """Return the manifest entry of an ONNX file, read from the file itself."""
    model = onnx.load(path)
    return Graph(
        path.name,
        sha256_of(path),
        _opset(model),
        _tensors(model.graph.input),
        _tensors(model.graph.output),
    )


def _attention(  # noqa: PLR0913, PLR0917 - the signature of aten::scaled_dot_product_attention
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Translate attention over (N, heads, rows, d) to matrix products and a softmax.

    The exporter's own translation transposes the keys with a dozen shape operators, which prevents backends
    from fusing attention.
    """
    if dropout_p or scale is not None or enable_gqa:
        raise NotImplementedError("attention with dropout, a scale or grouped heads is not supported")
    root = op.Constant(value_float=float(query.shape[-1]) ** -0.5)
    logits = op.MatMul(op.Mul(query, root), op.Transpose(key, perm=[0, 1, 3, 2]))
    if attn_mask is not None:
        logits = op.Add(logits, attn_mask)
    if is_causal:  # the number of rows is fixed, so the mask is a constant
        later = np.triu(np.full((query.shape[-2], key.shape[-2]), -np.inf, np.float32), k=1)
        logits = op.Add(logits, op.Constant(value=onnx.numpy_helper.from_array(later)))
    return op.MatMul(op.Softmax(logits, axis=-1), value)


def _of_type(graph: onnx.GraphProto, data_type: int) -> list[str]:
    """Return the names of the tensors and constants of a type, in a graph with inferred shapes."""
    values = (*graph.input, *graph.output, *graph.value_info)
    return [value.name for value in values if value.type.tensor_type.elem_type == data_type] + [
        tensor.name for tensor in graph.initializer if tensor.data_type == data_type
    ]


def _opset(model: onnx.ModelProto) -> int:
    return next(int(opset.version) for opset in model.opset_import if not opset.domain)


def _expected(opset: Any) -> bool:
    return not opset.domain and opset.version == OPSET


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    return [
        Tensor(
            value.name,
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            [
                int(dim.dim_value) if dim.HasField("dim_value") else str(dim.dim_param)
                for dim in value.type.tensor_type.shape.dim
            ],
        )
        for value in values
    ]
