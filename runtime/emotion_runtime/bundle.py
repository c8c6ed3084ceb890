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
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec
from safetensors import SafetensorError, safe_open

from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import MANIFEST, SCHEMA_VERSION, Graph, Head, Manifest, Variant
from emotion_runtime.manifest_checks import EXPORT_AGAIN, check_manifest
from emotion_runtime.names import GraphName, Precision

_HASH_BLOCK = 1 << 20
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
                f"precision {precision}: bundle {self.manifest.name} has {name} only in "
                f"{', '.join(['fp32', *graph.variants])}: choose one of these, or create it with "
                f"emotion-export onnx --bundle {self.folder} --precision {precision} --out NEW"
            )
        return self.folder / graph.variants[precision].file


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
    check_manifest(folder, manifest)
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
        raise EmotionError(f"bundle {folder}: {MANIFEST}: {error}; {EXPORT_AGAIN}") from error


def _check_file(folder: Path, name: str, file: str, sha256: str) -> None:
    # A manifest is untrusted input: it must not refer to files outside its folder.
    if not file or Path(file).name != file or "\\" in file or file == "..":
        raise EmotionError(f"bundle {folder}: {name}: {file!r} is not a plain file name; {EXPORT_AGAIN}")
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
            f"bundle {folder}: head {name}: {head.file} is not a safetensors file ({error}); {EXPORT_AGAIN}"
        ) from error
    if shapes != expected or dtypes != {"F32"}:
        raise EmotionError(
            f"bundle {folder}: head {name}: {shapes} of {', '.join(sorted(dtypes))}, "
            f"expected {expected} of F32 "
            f"for {len(head.labels)} labels and embedding_dim {dim}; {EXPORT_AGAIN}"
        )
