"""Check the description of a bundle by itself: its values, and whether its graphs fit together."""

from collections.abc import Sequence
from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import AFFECT, MANIFEST, Head, Manifest, QualityLimits, SwapLimits, Tensor
from emotion_runtime.names import GraphName
from emotion_runtime.preprocess import MAX_SIDE

# Far beyond any model, but safe to compute with and to allocate.
MAX_CLIP_SECONDS = 3600.0
MAX_CLIP_FRAMES = 4096
MAX_EMBEDDING_DIM = 65536
MAX_TEMPERATURE = 1e6

EXPORT_AGAIN = "export it again with emotion-export onnx"


def check_manifest(folder: Path, manifest: Manifest) -> None:
    """Check the manifest alone, before any other file is read.

    Raises:
        EmotionError: A value is out of range, or parts of the manifest do not match.
    """
    problem = _size_problem(manifest)
    if problem is None and manifest.default_head not in manifest.heads:
        problem = (
            f"default head {manifest.default_head!r} is not one of its heads ({', '.join(manifest.heads)})"
        )
    problems = (_head_problem(name, head) for name, head in manifest.heads.items())
    problem = problem or next(filter(None, problems), None) or _affect_problem(manifest)
    problem = problem or _swap_problem(manifest.swap) or _quality_problem(manifest.quality)
    if problem:
        raise EmotionError(f"bundle {folder}: {problem}; {EXPORT_AGAIN}")
    for name, (inputs, outputs) in _expected_graphs(manifest).items():
        if name not in manifest.graphs:
            raise EmotionError(f"bundle {folder}: graph {name} is missing from {MANIFEST}; {EXPORT_AGAIN}")
        graph = manifest.graphs[name]
        _check_tensors(folder, f"input of {name}", graph.inputs, inputs)
        _check_tensors(folder, f"output of {name}", graph.outputs, outputs)


def _size_problem(manifest: Manifest) -> str | None:
    if not manifest.name.strip():
        return f"name {manifest.name!r}, expected a word"
    if not 0 < manifest.clip_seconds <= MAX_CLIP_SECONDS:
        return f"clip_seconds {manifest.clip_seconds}, expected more than 0 and at most {MAX_CLIP_SECONDS}"
    for field, most in (("clip_frames", MAX_CLIP_FRAMES), ("embedding_dim", MAX_EMBEDDING_DIM)):
        value = getattr(manifest, field)
        if not 1 <= value <= most:
            return f"{field} {value}, expected 1 to {most}"
    return None


def _swap_problem(limits: SwapLimits | None) -> str | None:
    if limits is None or -1 <= limits.always <= limits.suspicious <= 1:
        return None
    return (
        f"swap: always {limits.always} and suspicious {limits.suspicious}, expected cosines from -1 to 1, "
        "always not above suspicious"
    )


def _head_problem(name: str, head: Head) -> str | None:
    if not head.labels or len(set(head.labels)) != len(head.labels):
        return f"head {name}: labels {head.labels}, expected one or more, all different"
    if not 0 < head.temperature <= MAX_TEMPERATURE:
        return (
            f"head {name}: temperature {head.temperature}, expected more than 0 and at most {MAX_TEMPERATURE}"
        )
    if head.activation == "identity" and head.temperature != 1:
        return f"head {name}: temperature {head.temperature}, expected 1 for a regression"
    if not 0 <= head.abstain < 1:
        return f"head {name}: abstain {head.abstain}, expected a probability below 1"
    return None


def _affect_problem(manifest: Manifest) -> str | None:
    """Return what is wrong with the choice of the default head and the affect head, or None."""
    if manifest.heads[manifest.default_head].activation == "identity":
        return f"default head {manifest.default_head!r} is a regression, expected one with probabilities"
    name = manifest.affect_head
    if name is None:
        return None
    if name not in manifest.heads:
        return f"affect head {name!r} is not one of its heads ({', '.join(manifest.heads)})"
    head = manifest.heads[name]
    if head.activation != "identity" or not set(head.labels) <= set(AFFECT):
        return (
            f"affect head {name!r} has the activation {head.activation} and the labels "
            f"{', '.join(head.labels)}, expected identity and some of {', '.join(AFFECT)}"
        )
    return None


def _quality_problem(limits: QualityLimits) -> str | None:
    if not 0 <= limits.head_px <= MAX_SIDE:
        return f"quality: head_px {limits.head_px}, expected pixels, 0 to {MAX_SIDE}"
    fractions = {name: getattr(limits, name) for name in ("sharpness", "inside", "frontal", "kept")}
    wrong = [f"{name} {value}" for name, value in fractions.items() if not 0 <= value <= 1]
    return f"quality: {', '.join(wrong)}, expected numbers from 0 to 1" if wrong else None


_Expected = dict[str, tuple[str, list[int | None]]]  # name -> dtype, shape with None where dynamic


def _expected_graphs(manifest: Manifest) -> dict[GraphName, tuple[_Expected, _Expected]]:
    """Return the inputs and outputs of both graphs that the rest of the manifest implies."""
    spec, dim = manifest.preprocess, manifest.embedding_dim
    return {
        "frame_encoder": (
            {
                "images": ("uint8", [None, spec.size, spec.size, 3]),
                "frame_index": ("int64", [None]),
                "patch_weights": ("float32", [None, spec.patches]),
            },
            {"embeddings": ("float32", [None, dim])},
        ),
        "temporal_encoder": (
            {"embeddings": ("float32", [None, manifest.clip_frames, dim])},
            {"features": ("float32", [None, dim])},
        ),
    }


def _check_tensors(folder: Path, what: str, stated: Sequence[Tensor], expected: _Expected) -> None:
    if sorted(tensor.name for tensor in stated) != sorted(expected):
        raise EmotionError(
            f"bundle {folder}: {what}: {', '.join(t.name for t in stated) or 'none'}, "
            f"expected {', '.join(expected)}; {EXPORT_AGAIN}"
        )
    for tensor in stated:
        dtype, shape = expected[tensor.name]
        # A number instead of a dynamic dimension means that the graph was exported for a fixed number of
        # persons.
        found = [None if isinstance(length, str) else length for length in tensor.shape]
        if tensor.dtype != dtype or found != shape:
            wanted = ", ".join("dynamic" if length is None else str(length) for length in shape)
            raise EmotionError(
                f"bundle {folder}: {what} {tensor.name}: {tensor.dtype} {tensor.shape}, expected {dtype} "
                f"[{wanted}] according to preprocess, clip_frames and embedding_dim; {EXPORT_AGAIN}"
            )
