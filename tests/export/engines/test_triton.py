"""A Triton repository, checked against the server's schema."""

import hashlib
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import msgspec
import numpy as np
import onnx
import pytest
from triton_configs import config, tensors

from emotion_export import triton
from emotion_export.cli import main
from emotion_export.commands import trt
from emotion_export.triton import one_image_per_person, write_repository
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.backends.onnx import OnnxBackend, open_session
from emotion_runtime.bundle import Bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.parity_inputs import frame_encoder_feeds
from emotion_runtime.tensorrt.cache import EngineKey, Sidecar, store_engine
from emotion_runtime.tensorrt.gpu import Gpu


def test_the_layout_is_that_of_a_repository(repository: Path):
    assert sorted(str(path.relative_to(repository)) for path in repository.rglob("*.*")) == [
        "nano_frame_encoder/1/model.onnx",
        "nano_frame_encoder/config.pbtxt",
        "nano_temporal_encoder/1/model.onnx",
        "nano_temporal_encoder/config.pbtxt",
    ]


@pytest.mark.slow
@pytest.mark.network
def test_the_temporal_encoder_is_batched_over_persons(schema: ModuleType, repository: Path):
    parsed = config(schema, repository / "nano_temporal_encoder")
    assert (parsed.name, parsed.platform) == ("nano_temporal_encoder", "onnxruntime_onnx")
    assert parsed.max_batch_size == 16
    assert parsed.HasField("dynamic_batching")
    assert 0 < parsed.dynamic_batching.max_queue_delay_microseconds < 10_000
    assert tensors(schema, parsed.input) == {"embeddings": ("float32", [8, 256])}
    assert tensors(schema, parsed.output) == {"features": ("float32", [256])}


@pytest.mark.slow
@pytest.mark.network
def test_the_frame_encoder_takes_one_image_per_person(schema: ModuleType, repository: Path):
    parsed = config(schema, repository / "nano_frame_encoder")
    assert parsed.max_batch_size == 16
    assert parsed.HasField("dynamic_batching")
    assert tensors(schema, parsed.input) == {
        "images": ("uint8", [112, 112, 3]),
        "patch_weights": ("float32", [49]),
    }
    assert tensors(schema, parsed.output) == {"embeddings": ("float32", [256])}


@pytest.mark.slow
@pytest.mark.network
def test_the_files_match_their_configuration(schema: ModuleType, repository: Path):
    for folder in repository.iterdir():
        parsed = config(schema, folder)
        model = onnx.load(folder / "1" / "model.onnx")
        onnx.checker.check_model(model, full_check=True)
        for stated, values in ((parsed.input, model.graph.input), (parsed.output, model.graph.output)):
            found = {
                value.name: (
                    onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
                    [dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]],
                )
                for value in values
            }
            assert tensors(schema, stated) == found
            assert all(value.type.tensor_type.shape.dim[0].dim_param for value in values)


def test_batched_requests_give_the_same_results_as_single_ones(nano_bundle: Bundle):
    """What Triton does with two cameras at once: rows of all inputs one below the other."""
    original = OnnxBackend(nano_bundle.graph_path("frame_encoder"))
    served = one_image_per_person(onnx.load(nano_bundle.graph_path("frame_encoder")))
    session = open_session(served.SerializeToString(), name="served", fix="none")
    groups = frame_encoder_feeds(nano_bundle.manifest.preprocess, Limits(8, 2))
    requests = [feed for group in groups for feed in group]
    expected = [original.run(feed)["embeddings"] for feed in requests]
    joined = {
        "images": np.concatenate([feed["images"][feed["frame_index"]] for feed in requests]),
        "patch_weights": np.concatenate([feed["patch_weights"] for feed in requests]),
    }
    (found,) = session.run(None, joined)
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-4)


@pytest.fixture
def engines_here(
    nano_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Provide TensorRT and a GPU, and return a function that caches checked engines for eight people."""
    monkeypatch.setenv("EMOTION_ENGINE_CACHE", str(tmp_path / "cache"))
    spec = ModuleSpec("tensorrt", None, origin="test")
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.3.0", __spec__=spec))
    monkeypatch.setattr(triton, "find_gpu", lambda: Gpu("Server GPU", "8.9"))

    def store(checked_on: str) -> None:
        library = SimpleNamespace(__version__="10.3.0")
        for graph in triton.GRAPHS:
            key = EngineKey(
                graph, {"fp32": nano_bundle.manifest.graphs[graph].sha256},
                triton.builder_name("tensorrt", library), "Server GPU", "8.9", "ladder", 8, 2,
            )  # fmt: skip
            content = f"engine of {graph}".encode()
            sha256 = hashlib.sha256(content).hexdigest()
            sidecar = Sidecar(2, key, sha256, len(content), "fp16", checked_on, [], [], {}, {}, [], 1.0)
            store_engine(triton.cache_folder(), content, sidecar)

    return store


@pytest.mark.slow
@pytest.mark.network
def test_engines_are_served_as_they_were_checked(
    schema: ModuleType, nano_bundle: Bundle, tmp_path: Path, engines_here: Callable[[str], None]
):
    engines_here("Server GPU, driver for CUDA 12.6")
    write_repository(nano_bundle, tmp_path / "out", platform="tensorrt", version=3)
    frame, temporal = (tmp_path / "out" / f"nano_{graph}" for graph in triton.GRAPHS)
    assert (frame / "3" / "model.plan").read_bytes() == b"engine of frame_encoder"
    parsed = config(schema, frame)
    # Joined, the pictures of one camera would be counted on from those of another.
    assert (parsed.platform, parsed.max_batch_size) == ("tensorrt_plan", 0)
    assert not parsed.HasField("dynamic_batching")
    assert {name: value.string_value for name, value in parsed.parameters.items()} == {
        "max_persons": "8",
        "max_images": "2",
    }
    assert tensors(schema, parsed.input) == {
        "images": ("uint8", [-1, 112, 112, 3]),
        "frame_index": ("int64", [-1]),
        "patch_weights": ("float32", [-1, 49]),
    }
    parsed = config(schema, temporal)
    assert (parsed.max_batch_size, parsed.HasField("dynamic_batching")) == (8, True)


def test_engines_that_are_missing_or_not_checked_are_not_served(
    nano_bundle: Bundle, tmp_path: Path, engines_here: Callable[[str], None]
):
    with pytest.raises(EmotionError, match=r"not built yet\): run emotion-export trt --bundle"):
        write_repository(nano_bundle, tmp_path / "out", platform="tensorrt")
    engines_here("")
    with pytest.raises(EmotionError, match="its parity was not checked"):
        write_repository(nano_bundle, tmp_path / "out", platform="tensorrt")
    assert not (tmp_path / "out").exists()


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    (tmp_path / "file").write_text("")
    new = str(tmp_path / "new")
    for arguments, words in (
        (["--bundle", "absent", "--out", new], "bundle 'absent' not found"),
        (["--bundle", "nano", "--out", str(tmp_path / "full")], "is not an empty folder"),
        (["--bundle", "nano", "--out", str(tmp_path / "file")], "is not an empty folder"),
        (["--bundle", "nano", "--out", str(tmp_path / "file" / "below")], "cannot be written"),
        (["--bundle", "nano", "--out", new, "--model-version", "0"], "expected 1 or more"),
        (["--bundle", "nano", "--out", new, "--max-persons", "0"], "expected 1 or more"),
        (
            ["--bundle", "nano", "--out", new, "--platform=tensorrt", "--max-persons=16"],
            "16 does not apply to --pl",
        ),
    ):
        assert main(["triton", *arguments]) == 2
        line, end = capsys.readouterr().err.split("\n")
        assert line.startswith("emotion-export triton: error: ")
        assert words in line
        assert not end
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]
    assert main(["triton", "--bundle", "nano", "--out", new]) == 0
    assert "UNVERIFIED" not in capsys.readouterr().out


@pytest.mark.parametrize(("bundle", "reason"), [("nope", "bundle 'nope' not found"), ("", "is missing")])
def test_engines_of_a_wrong_bundle_name_the_bundle_first(
    bundle: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """TensorRT need not be installed to find out."""

    def not_installed(flavor: str) -> None:
        raise EmotionError(f"{flavor} is not installed")

    monkeypatch.setattr(trt, "load_tensorrt", not_installed)
    assert main(["trt", "--bundle", bundle or str(tmp_path)]) == 2
    line = capsys.readouterr().err
    assert reason in line
    assert "not installed" not in line


def test_a_folder_that_cannot_be_created_is_not_a_full_disk(capsys: pytest.CaptureFixture[str]):
    assert main(["triton", "--bundle", "nano", "--out", "/proc/x"]) == 2
    line = capsys.readouterr().err
    assert "folder /proc/x cannot be written: No such file or directory; choose another --out" in line
    assert "disk space" not in line


def test_ctrl_c_leaves_no_half_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After the first model's file, before its configuration."""
    monkeypatch.setattr(triton, "config_text", Mock(side_effect=KeyboardInterrupt))
    assert main(["triton", "--bundle", "nano", "--out", str(tmp_path / "out")]) == 130
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_name_that_cannot_be_the_name_of_a_model(nano_bundle: Bundle, tmp_path: Path):
    odd = Bundle(nano_bundle.folder, msgspec.structs.replace(nano_bundle.manifest, name='a "b"'))
    with pytest.raises(EmotionError, match="cannot be the name of a model"):
        write_repository(odd, tmp_path / "out")
