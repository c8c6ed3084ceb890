"""The loader accepts a complete bundle, or says in one line what is wrong."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from emotion_runtime import bundle
from emotion_runtime.bundle import load_bundle, sha256_of
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import DEFAULT_QUALITY, write_manifest


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    """Change the manifest as JSON."""
    path = folder / "bundle.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def error_of(folder: Path) -> str:
    with pytest.raises(EmotionError) as caught:
        load_bundle(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_loads_a_complete_bundle(tiny_bundle: Path):
    loaded = load_bundle(tiny_bundle)
    assert loaded.manifest.name == "tiny"
    assert loaded.graph_path("frame_encoder") == tiny_bundle / "frame_encoder.onnx"


@pytest.fixture
def with_fp16(folder: Path) -> Path:
    """Add a second file for the frame encoder to the bundle."""
    (folder / "half.onnx").write_bytes(b"never opened")
    variant = {"file": "half.onnx", "sha256": sha256_of(folder / "half.onnx"), "opset": 20}
    edit(folder, set_in("graphs", "frame_encoder", "variants", value={"fp16": variant}))
    return folder


def test_a_graph_is_available_in_the_precisions_of_the_bundle(with_fp16: Path):
    loaded = load_bundle(with_fp16)
    assert loaded.graph_path("frame_encoder", "fp16") == with_fp16 / "half.onnx"
    assert loaded.graph_path("frame_encoder", "fp32") == loaded.graph_path("frame_encoder")
    for graph, precision, had in (
        ("frame_encoder", "int8", "fp32, fp16:"),
        ("temporal_encoder", "fp16", "fp32:"),
    ):
        line = f"^precision {precision}: bundle tiny has {graph} only in {had}.*emotion-export onnx"
        with pytest.raises(EmotionError, match=line) as error:
            loaded.graph_path(graph, precision)
        assert "\n" not in str(error.value)


def test_files_of_all_precisions_are_checked(with_fp16: Path):
    (with_fp16 / "half.onnx").write_bytes(b"changed")
    assert "frame_encoder in fp16: half.onnx has sha256" in error_of(with_fp16)
    (with_fp16 / "half.onnx").unlink()
    assert "frame_encoder in fp16: half.onnx is missing" in error_of(with_fp16)
    edit(with_fp16, set_in("graphs", "frame_encoder", "variants", "fp16", "file", value="../half.onnx"))
    assert "not a plain file name" in error_of(with_fp16)
    edit(with_fp16, lambda m: set_in("variants", value={"fp4": {}})(m["graphs"]["frame_encoder"]))
    assert "fp4" in error_of(with_fp16)


def test_a_written_manifest_is_read_unchanged(tiny_bundle: Path, tmp_path: Path):
    manifest = load_bundle(tiny_bundle).manifest
    path = write_manifest(manifest, tmp_path)
    assert json.loads(path.read_text()) == json.loads(msgspec.json.encode(manifest))
    assert len(path.read_text().splitlines()) > 20  # for readers and diffs


def test_the_hash_is_sha256_for_files_of_any_size(tmp_path: Path):
    known = tmp_path / "abc"
    known.write_bytes(b"abc")  # FIPS 180-4's example
    assert sha256_of(known) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    content = np.random.default_rng(0).bytes(2_500_001)
    large = tmp_path / "large"
    large.write_bytes(content)
    assert sha256_of(large) == hashlib.sha256(content).hexdigest()


def test_a_shipped_bundle_takes_precedence_over_a_folder_of_that_name(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(tiny_bundle, tmp_path / "package" / "bundles" / "tiny")
    (tmp_path / "here" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(bundle.resources, "files", lambda _: tmp_path / "package")
    assert load_bundle("tiny").folder == tmp_path / "package" / "bundles" / "tiny"
    assert "bundle.json is missing" in error_of(Path("./tiny").resolve())
    with pytest.raises(EmotionError, match=r"'huge' not found.*shipped bundle \(tiny\)"):
        load_bundle("huge")


def test_an_empty_folder_is_not_a_bundle(tmp_path: Path):
    assert "bundle.json is missing" in error_of(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "one"}', '{"schema": 1}'])
def test_broken_json(folder: Path, text: str):
    (folder / "bundle.json").write_text(text)
    assert "bundle.json:" in error_of(folder)


def set_in(*keys: str | int, value: object) -> Callable[[dict], None]:
    def change(manifest: dict) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = value

    return change


FRAME_INPUTS = ("graphs", "frame_encoder", "inputs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("surprise", value=1), "unknown field `surprise`"),
        (set_in("graphs", "frame_encoder", "extra", value=1), "unknown field `extra`"),
        (set_in("graphs", "third", value={}), "third"),
        (lambda manifest: manifest.pop("license"), "missing required field `license`"),
        (lambda manifest: manifest["graphs"].pop("temporal_encoder"), "temporal_encoder is missing"),
        (set_in("default_head", value="mood"), "'mood' is not one of its heads (probe, opposite)"),
        (set_in("clip_frames", value=8), "embeddings: float32 ['P', 4, 4], expected float32 [dynamic, 8, 4]"),
        (set_in("embedding_dim", value=5), "expected float32 [dynamic, 5]"),
        (set_in("preprocess", "patch", value=4), "expected float32 [dynamic, 64]"),
        (set_in("preprocess", "size", value=33), "33 must be a positive multiple"),
        (set_in(*FRAME_INPUTS, 0, "dtype", value="float32"), "images: float32"),
        (set_in(*FRAME_INPUTS, 1, "shape", value=[1]), "frame_index: int64 [1], expected int64 [dynamic]"),
        (set_in(*FRAME_INPUTS, 0, "name", value="pictures"), "pictures"),
        (set_in("graphs", "frame_encoder", "outputs", value=[]), "output of frame_encoder: none"),
        (set_in("heads", "probe", "labels", value=["joy", "joy", "anger"]), "expected one or more"),
        (set_in("heads", "probe", "labels", value=["joy", "anger"]), "'weight': [2, 4]"),
        (set_in("heads", "probe", "temperature", value=0), "temperature 0"),
        (set_in("heads", "probe", "abstain", value=2.0), "abstain 2"),
        (set_in("clip_seconds", value=0), "expected more than 0"),
        (set_in("clip_seconds", value=1e300), "clip_seconds 1e+300, expected more than 0 and at most 3600"),
        (set_in("clip_frames", value=0), "clip_frames 0, expected 1 to 4096"),
        (set_in("embedding_dim", value=10**9), "embedding_dim 1000000000, expected 1 to 65536"),
        (set_in("name", value=" "), "name ' ', expected a word"),
        (set_in("swap", value={"always": -1.5, "suspicious": 0.9}), "swap: always -1.5 and suspicious 0.9"),
        (set_in("swap", value={"always": 0.5, "suspicious": 1.1}), "expected cosines from -1 to 1"),
        (set_in("swap", value={"always": 0.9, "suspicious": 0.6}), "always not above suspicious"),
        (set_in("preprocess", "subject_scale", value=1e4), "subject_scale 10000.0 must be from 1 to 16.0"),
        (
            set_in("preprocess", "short_side", value=10**9),
            "short_side 1000000000 must be at most 8192 pixels",
        ),
        (
            set_in("preprocess", "mean", value=[0, 0, 1.5]),
            "mean [0.0, 0.0, 1.5] must be 3 numbers from 0 to 1",
        ),
        (
            set_in("preprocess", "std", value=[0.2, 0, 0.2]),
            "std [0.2, 0.0, 0.2] must be 3 numbers from 0.001 to",
        ),
        (set_in("heads", "probe", "temperature", value=1e300), "temperature 1e+300, expected more than 0"),
        (set_in("quality", value={"head_px": 1e300}), "head_px 1e+300, expected pixels, 0 to 8192"),
        (set_in("quality", value={"head_px": -1}), "head_px -1.0, expected pixels, 0 to 8192"),
        (set_in("quality", value={"inside": 7}), "inside 7.0, expected numbers from 0 to 1"),
    ],
)
def test_a_manifest_that_does_not_match(folder: Path, change: Callable[[dict], object], message: str):
    edit(folder, change)
    assert message in error_of(folder)


def test_a_folder_in_the_place_of_the_manifest_is_named(folder: Path):
    (folder / "bundle.json").unlink()
    (folder / "bundle.json").mkdir()
    assert "bundle.json is a folder, expected a file" in error_of(folder)


def test_a_bundle_without_limits_of_quality_loads_with_the_defaults(folder: Path):
    edit(folder, lambda manifest: manifest.update(schema=2) or manifest.pop("quality", None))
    assert load_bundle(folder).manifest.quality == DEFAULT_QUALITY


def test_a_newer_schema_is_reported_before_its_unknown_keys(folder: Path):
    edit(folder, lambda manifest: manifest.update(schema=4, something_new=True))
    message = error_of(folder)
    assert "schema 4 was made by a newer version" in message
    assert "update this program" in message


@pytest.mark.parametrize("file", ["frame_encoder.onnx", "temporal_encoder.onnx", "opposite.safetensors"])
def test_a_missing_file(folder: Path, file: str):
    (folder / file).unlink()
    assert f"{file} is missing" in error_of(folder)


@pytest.mark.parametrize("file", ["frame_encoder.onnx", "temporal_encoder.onnx", "opposite.safetensors"])
def test_a_changed_bit_is_rejected(folder: Path, file: str):
    content = bytearray((folder / file).read_bytes())
    content[-1] ^= 1
    (folder / file).write_bytes(content)
    message = error_of(folder)
    assert hashlib.sha256(content).hexdigest() in message
    assert "damaged or was changed" in message


@pytest.mark.parametrize("escape", ["../outside.onnx", "/etc/hostname", "..", "", "a/b.onnx", "..\\b.onnx"])
def test_file_names_stay_in_the_folder(folder: Path, escape: str):
    (folder.parent / "outside.onnx").write_bytes(b"")  # exists, so only the name can be the reason
    edit(folder, set_in("graphs", "frame_encoder", "file", value=escape))
    assert "not a plain file name" in error_of(folder)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": np.zeros((3, 5), np.float32), "bias": np.zeros(3, np.float32)}, "'weight': [3, 5]"),
        ({"weight": np.zeros((3, 4), np.float32)}, "expected {'weight': [3, 4], 'bias': [3]}"),
        ({"weight": np.zeros((3, 4), np.float64), "bias": np.zeros(3, np.float32)}, "F64"),
        (None, "is not a safetensors file"),
    ],
)
def test_a_head_that_does_not_match(folder: Path, tensors: dict | None, message: str):
    path = folder / "probe.safetensors"
    save_file(tensors, path) if tensors else path.write_bytes(b"junk")
    edit(folder, set_in("heads", "probe", "sha256", value=sha256_of(path)))
    assert message in error_of(folder)
