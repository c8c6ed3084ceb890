"""Load a bundle: a folder with a model in the form that the runtime uses.

bundle.json           see `emotion_runtime.manifest`
frame_encoder.onnx    images (F, S, S, 3) uint8 RGB, frame_index (P,) int64, patch_weights (P, G) float32
                      -> embeddings (P, D) float32
temporal_encoder.onnx embeddings (P, T, D) float32 -> features (P, D) float32
*.fp16.onnx, *.int8.onnx  the same graphs in lower precision, if the bundle has them
*.safetensors         heads: weight (C, D) and bias (C,) float32, applied to L2-normalised features
MODEL_CARD.md

`load_bundle` compares the hash of every file with the manifest before anything is parsed or run, and accepts
a bundle only as a whole.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec
from safetensors import SafetensorError, safe_open

from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import (
    AFFECT,
    MANIFEST,
    SCHEMA_VERSION,
    Graph,
    GraphName,
    Head,
    Manifest,
    Precision,
    QualityLimits,
    SwapLimits,
    Tensor,
    Variant,
)
from emotion_runtime.preprocess import MAX_SIDE

# Far beyond any model, but safe to compute with and to allocate.
MAX_CLIP_SECONDS = 3600.0
MAX_CLIP_FRAMES = 4096
MAX_EMBEDDING_DIM = 65536
MAX_TEMPERATURE = 1e6

_HASH_BLOCK = 1 << 20
_EXPORT_AGAIN = "export it again with emotion-export onnx"
_COPY_AGAIN = "copy or download the bundle again"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that is complete and matches its manifest."""

    folder: Path
    manifest: Manifest

    def graph_path(self, name: GraphName, precision: Precision = "fp32") -> Path:
        """Return the ONNX file of a graph.

        Raises:
            EmotionError: The bundle does not have the graph in that precision.
        """
        graph = self.manifest.graphs[name]
        if precision == "fp32":
            return self.folder / graph.file
        if precision not in graph.variants:
            raise EmotionError(
                f"bundle {self.manifest.name} has no {name} in {precision}, only in "
                f"{', '.join(['fp32', *graph.variants])}: choose one of these, or create it with "
                f"emotion-export onnx --bundle {self.folder} --precision {precision} --out NEW"
            )
        return self.folder / graph.variants[precision].file

    def head_path(self, name: str) -> Path:
        """Return the safetensors file of a head; `name` is a key of `manifest.heads`."""
        return self.folder / self.manifest.heads[name].file


class _Schema(msgspec.Struct):
    """The one field that all versions of the manifest have."""

    schema: int


def load_bundle(name_or_dir: str | Path) -> Bundle:
    """Load and check a bundle.

    Args:
        name_or_dir: Name of a shipped bundle, or a folder. A shipped bundle takes precedence over a folder of
            that name in the working directory, so that the model does not depend on where the program is
            started; `./nano` means the folder.

    Raises:
        EmotionError: The bundle is missing or broken, was made by a newer version, or its parts do not match.
    """
    folder = _find(name_or_dir)
    manifest = _read_manifest(folder)
    _check_manifest(folder, manifest)
    parts: list[tuple[str, Graph | Variant | Head]] = [*manifest.graphs.items(), *manifest.heads.items()]
    for graph_name, graph in manifest.graphs.items():
        parts += [(f"{graph_name} in {precision}", variant) for precision, variant in graph.variants.items()]
    for name, part in parts:
        _check_file(folder, name, part.file, part.sha256)
    for name, head in manifest.heads.items():  # after the hashes: no file is parsed before
        _check_head(folder, name, head, manifest.embedding_dim)
    return Bundle(folder, manifest)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file of any size, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _find(name_or_dir: str | Path) -> Path:
    shipped = Path(str(resources.files("emotion_runtime"))) / "bundles"
    names = sorted(path.parent.name for path in shipped.glob(f"*/{MANIFEST}"))
    folder = shipped / name_or_dir if str(name_or_dir) in names else Path(name_or_dir)
    if not folder.is_dir():
        raise EmotionError(
            f"bundle {str(name_or_dir)!r} not found: expected a folder, "
            f"or the name of a shipped bundle ({', '.join(names) or 'this installation has none'})"
        )
    return folder


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if path.is_dir():
        raise EmotionError(f"bundle {folder}: {MANIFEST} is a folder, expected a file; {_COPY_AGAIN}")
    if not path.is_file():
        raise EmotionError(
            f"bundle {folder}: {MANIFEST} is missing; expected a folder written by emotion-export onnx"
        )
    try:
        text = path.read_bytes()
        schema = msgspec.json.decode(text, type=_Schema).schema
        if schema > SCHEMA_VERSION:
            raise EmotionError(
                f"bundle {folder}: schema {schema} was made by a newer version, this one reads up to "
                f"{SCHEMA_VERSION}; update this program"
            )
        return msgspec.json.decode(text, type=Manifest)
    except OSError as error:
        raise EmotionError(
            f"bundle {folder}: {MANIFEST} cannot be read ({error.strerror}); chmod +r {path}"
        ) from error
    except msgspec.DecodeError as error:  # includes wrong fields
        raise EmotionError(f"bundle {folder}: {MANIFEST}: {error}; {_EXPORT_AGAIN}") from error


def _check_manifest(folder: Path, manifest: Manifest) -> None:
    """Check the manifest alone, before any other file is read."""
    problem = _size_problem(manifest)
    if problem is None and manifest.default_head not in manifest.heads:
        problem = (
            f"default head {manifest.default_head!r} is not one of its heads ({', '.join(manifest.heads)})"
        )
    problems = (_head_problem(name, head) for name, head in manifest.heads.items())
    problem = problem or next(filter(None, problems), None) or _affect_problem(manifest)
    problem = problem or _swap_problem(manifest.swap) or _quality_problem(manifest.quality)
    if problem:
        raise EmotionError(f"bundle {folder}: {problem}; {_EXPORT_AGAIN}")
    for name, (inputs, outputs) in _expected_graphs(manifest).items():
        if name not in manifest.graphs:
            raise EmotionError(f"bundle {folder}: graph {name} is missing from {MANIFEST}; {_EXPORT_AGAIN}")
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
            f"expected {', '.join(expected)}; {_EXPORT_AGAIN}"
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
                f"[{wanted}] according to preprocess, clip_frames and embedding_dim; {_EXPORT_AGAIN}"
            )


def _check_file(folder: Path, name: str, file: str, sha256: str) -> None:
    # A manifest is untrusted input: it must not refer to files outside its folder.
    if not file or Path(file).name != file or "\\" in file or file == "..":
        raise EmotionError(f"bundle {folder}: {name}: {file!r} is not a plain file name; {_EXPORT_AGAIN}")
    path = folder / file
    if not path.is_file():
        raise EmotionError(f"bundle {folder}: {name}: {file} is missing; {_COPY_AGAIN}")
    try:
        found = sha256_of(path)
    except OSError as error:
        raise EmotionError(
            f"bundle {folder}: {name}: {file} cannot be read ({error.strerror}); chmod +r {path}"
        ) from error
    if found != sha256.lower():
        raise EmotionError(
            f"bundle {folder}: {name}: {file} has sha256 {found}, expected {sha256}: "
            f"the file is damaged or was changed; {_COPY_AGAIN}"
        )


def _check_head(folder: Path, name: str, head: Head, dim: int) -> None:
    expected = {"weight": [len(head.labels), dim], "bias": [len(head.labels)]}
    try:
        with safe_open(str(folder / head.file), framework="numpy") as tensors:
            found = {key: tensors.get_slice(key) for key in tensors.keys()}  # noqa: SIM118 - no mapping
            shapes = {key: list(part.get_shape()) for key, part in found.items()}
            dtypes = {part.get_dtype() for part in found.values()}
    except SafetensorError as error:
        raise EmotionError(
            f"bundle {folder}: head {name}: {head.file} is not a safetensors file ({error}); {_EXPORT_AGAIN}"
        ) from error
    if shapes != expected or dtypes != {"F32"}:
        raise EmotionError(
            f"bundle {folder}: head {name}: {shapes} of {', '.join(sorted(dtypes))}, "
            f"expected {expected} of F32 "
            f"for {len(head.labels)} labels and embedding_dim {dim}; {_EXPORT_AGAIN}"
        )
