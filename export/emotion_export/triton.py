r"""Write a bundle as a model repository of NVIDIA's Triton Inference Server, for many cameras on one server.

With the platform `onnxruntime`, repository, client and batching are verified on a real server of release
24.10, without a GPU, whose backend `onnxruntime` is a stand-in in Python
(tests/export/test_triton_server.py). UNVERIFIED are NVIDIA's own backends, `onnxruntime` and `tensorrt`;
these commands verify them:

    emotion-export triton --bundle nano --out repository [--platform tensorrt]
    docker run --rm --gpus all -p8000:8000 -v $PWD/repository:/models nvcr.io/nvidia/tritonserver:YY.MM-py3 \
        tritonserver --model-repository=/models
    python export/triton_client.py --bundle nano --source demo

NAME_frame_encoder/config.pbtxt     and the same for NAME_temporal_encoder
NAME_frame_encoder/1/model.onnx     or model.plan

Triton batches requests by concatenating every input along its first dimension. In the temporal encoder,
rows are people, so this is correct. `frame_index` counts the images within one request and would point to
another camera's image, so the served ONNX graph takes one image per person instead. An engine is served
as it was built and checked, with `frame_index` and without batching of requests; its limits are
parameters of the model, by which the client splits larger batches.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from emotion_export.engine_graphs import read_model
from emotion_export.folder import atomic_folder
from emotion_runtime.backends.buckets import Limits, limits_for
from emotion_runtime.bundle import Bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import Tensor
from emotion_runtime.names import GRAPHS, GraphName
from emotion_runtime.tensorrt.cache import cache_folder, compatible_engines, find_engine
from emotion_runtime.tensorrt.gpu import builder_name, find_gpu, load_tensorrt
from emotion_runtime.tensorrt.keys import encoder_key

Platform = Literal["onnxruntime", "tensorrt"]

_PLATFORMS = {"onnxruntime": ("onnxruntime_onnx", "model.onnx"), "tensorrt": ("tensorrt_plan", "model.plan")}
_TYPES = {"uint8": "TYPE_UINT8", "int64": "TYPE_INT64", "float32": "TYPE_FP32"}
_QUEUE_DELAY = (
    2000  # microseconds that a request waits for others: a twentieth of the time between two frames
)

MAX_PERSONS = 16  # per batch
IMAGES_INPUT, INDEX_INPUT = "images", "frame_index"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as the server takes it.

    Attributes:
        name: Name of the model.
        platform: Platform that runs it.
        content: Content of the model file.
        inputs: Inputs, with the batch dimension.
        outputs: Outputs, with the batch dimension.
        max_batch: Maximum number of rows of a batch; 0 means that requests are never batched.
        limits: The largest request, if requests are never batched.
    """

    name: str
    platform: Platform
    content: bytes
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    max_batch: int
    limits: Limits | None = None


def write_repository(
    bundle: Bundle,
    out: Path,
    *,
    platform: Platform = "onnxruntime",
    version: int = 1,
    persons: int | None = None,
) -> list[str]:
    """Write both graphs of a bundle as the model repository `out`.

    Args:
        bundle: The bundle.
        out: A new or empty folder.
        platform: Backend of the server.
        version: Version of both models.
        persons: Maximum number of people per batch, by default `MAX_PERSONS`; only for onnxruntime, since an
            engine has its own limits.

    Returns:
        The names of the models.

    Raises:
        EmotionError: `out` is not empty or not writable, a number or the name is invalid, or an engine is
            missing.
    """
    if platform == "tensorrt" and persons is not None:
        raise EmotionError(
            f"--max-persons {persons} does not apply to --platform tensorrt, whose engines have limits of "
            "their own: pass it to emotion-export trt"
        )
    persons = MAX_PERSONS if persons is None else persons
    if version < 1 or persons < 1:
        raise EmotionError(f"version {version}, persons {persons}: expected 1 or more")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", bundle.manifest.name):
        raise EmotionError(
            f"bundle name {bundle.manifest.name!r} cannot be the name of a model: expected letters, "
            "digits, '_', '.', '-'"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EmotionError(f"--out {out} exists and is not an empty folder: choose a new one")
    models = [_served_model(bundle, graph, platform, persons) for graph in GRAPHS]
    with atomic_folder(out.resolve()) as folder:
        for model in models:
            place = folder / model.name / str(version)
            place.mkdir(parents=True)
            (place / _PLATFORMS[platform][1]).write_bytes(model.content)
            (folder / model.name / "config.pbtxt").write_text(config_text(model), encoding="utf-8")
    return [model.name for model in models]


def config_text(model: ServedModel) -> str:
    """Return config.pbtxt of a model."""
    lines = [
        f'name: "{model.name}"',
        f'platform: "{_PLATFORMS[model.platform][0]}"',
        f"max_batch_size: {model.max_batch}",
        *_tensors_text("input", model.inputs, batched=model.max_batch > 0),
        *_tensors_text("output", model.outputs, batched=model.max_batch > 0),
    ]
    if model.max_batch:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {_QUEUE_DELAY} }}")
    elif model.limits:
        for name, most in (("max_persons", model.limits.persons), ("max_images", model.limits.images)):
            lines.append(f'parameters {{ key: "{name}" value {{ string_value: "{most}" }} }}')
    return "\n".join(lines) + "\n"


def one_image_per_person(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the frame encoder without `frame_index`: person i is in image i.

    The given model is not changed.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    kept = [value for value in graph.input if value.name != INDEX_INPUT]
    for value in kept:
        value.type.tensor_type.shape.dim[0].dim_param = "P"
    del graph.input[:]
    graph.input.extend(kept)
    new = [
        helper.make_node("Shape", [IMAGES_INPUT], ["persons_1d"], name="persons_1d", start=0, end=1),
        helper.make_node("Squeeze", ["persons_1d"], ["persons"], name="persons"),
        helper.make_node("Range", ["from_0", "persons", "by_1"], [INDEX_INPUT], name=INDEX_INPUT),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*new, *rest])
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in (("from_0", 0), ("by_1", 1))
    )
    return result


def _served_model(bundle: Bundle, graph: GraphName, platform: Platform, persons: int) -> ServedModel:
    stated = bundle.manifest.graphs[graph]
    name = f"{bundle.manifest.name}_{graph}"
    if platform == "tensorrt":
        engine, limits = _engine(bundle, graph)
        max_batch = limits.persons if all(tensor.name != INDEX_INPUT for tensor in stated.inputs) else 0
        return ServedModel(name, platform, engine, stated.inputs, stated.outputs, max_batch, limits)
    model = read_model(bundle.graph_path(graph), stated.sha256)
    inputs = [tensor for tensor in stated.inputs if tensor.name != INDEX_INPUT]
    if graph == "frame_encoder":
        model = one_image_per_person(model)
    return ServedModel(name, platform, model.SerializeToString(), inputs, stated.outputs, persons)


def _engine(bundle: Bundle, graph: GraphName) -> tuple[bytes, Limits]:
    """Return an engine that was built and checked on this machine, and its limits."""
    builder = builder_name("tensorrt", load_tensorrt("tensorrt"))
    gpu = find_gpu()
    limits = limits_for(bundle.manifest.preprocess.window)
    key = encoder_key(bundle, graph, "ladder", limits, builder=builder, gpu=gpu)
    found = next(compatible_engines(cache_folder(), key), None) or find_engine(cache_folder(), key)
    if isinstance(found, str) or not found[0].checked_on:
        reason = found if isinstance(found, str) else "its parity was not checked"
        raise EmotionError(
            f"{graph} has no engine of {builder} for {gpu.name} ({reason}): run emotion-export trt --bundle "
            f"{bundle.folder} on the server's GPU with its version of TensorRT"
        )
    sidecar, engine = found
    return engine, Limits(sidecar.key.persons, sidecar.key.images)


def _tensors_text(kind: str, tensors: Sequence[Tensor], *, batched: bool) -> list[str]:
    """Return the lines of config.pbtxt about inputs or outputs.

    If `batched`, the first dimension is that of the batch and is left out.
    """
    lines = []
    for tensor in tensors:
        shape = tensor.shape[1:] if batched else tensor.shape
        dims = ", ".join("-1" if isinstance(length, str) else str(length) for length in shape)
        lines += [
            f"{kind} {{",
            f'  name: "{tensor.name}"',
            f"  data_type: {_TYPES[tensor.dtype]}",
            f"  dims: [ {dims} ]",
            "}",
        ]
    return lines
