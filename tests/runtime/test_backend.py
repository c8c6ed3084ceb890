"""Backends run a graph as it is written, and never replace the requested backend."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest

import emotion_runtime
from emotion_runtime import doctor
from emotion_runtime.backends import cuda
from emotion_runtime.backends.onnx import (
    CPU,
    CUDA,
    OnnxBackend,
    default_threads,
    open_graph,
    open_session,
    providers_for,
    usable_cores,
)
from emotion_runtime.backends.openvino import OpenVinoBackend
from emotion_runtime.bundle import Bundle, load_bundle, sha256_of
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import Variant, write_manifest
from emotion_runtime.open_backend import open_encoders


@pytest.fixture
def graph(tiny_bundle: Path) -> Path:
    return tiny_bundle / "temporal_encoder.onnx"


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


@pytest.mark.parametrize("persons", [1, 3, 8])
def test_runs_the_graph_for_any_number_of_persons(graph: Path, persons: int):
    clips = np.random.default_rng(persons).normal(size=(persons, 4, 4)).astype(np.float32)
    outputs = OnnxBackend(graph).run({"embeddings": clips})
    assert list(outputs) == ["features"]
    # The formula of the graph: a weighted sum over time, oldest first.
    expected = np.einsum("t,ptd->pd", [0.1, 0.2, 0.3, 0.4], clips)
    np.testing.assert_allclose(outputs["features"], expected, atol=1e-6)


def test_the_description_names_what_runs_the_graph(graph: Path):
    description = OnnxBackend(graph).description
    assert CPU in description
    assert f"{default_threads()} threads" in description


@pytest.mark.parametrize(
    ("quota", "cores"), [("150000 100000", 2), ("50000 100000", 1), ("900000 100000", 3), ("max 100000", 3)]
)
def test_a_container_uses_as_many_threads_as_cores_it_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1, 5}, raising=False)
    path = tmp_path / "cpu.max"
    path.write_text(f"{quota}\n")
    assert usable_cores(path) == cores
    assert usable_cores(tmp_path / "none") == 3  # no control groups, or of another version


def test_auto_logs_its_choice_in_one_line_and_the_reasons_for_debugging(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(cuda, "available_providers", lambda: [CPU])
    for module in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)
    with caplog.at_level(logging.DEBUG, logger="emotion_runtime"):
        first, second = open_encoders("auto", bundle)
    assert CPU in first.description
    assert CPU in second.description
    messages = [(record.levelno, record.message) for record in caplog.records]
    no_cuda = "the installed ONNX Runtime was built without CUDA"
    assert [(level, text.partition(". On a Jetson: ")[0]) for level, text in messages] == [
        (logging.DEBUG, "backend tensorrt is not used: tensorrt is not installed"),
        (logging.DEBUG, "backend tensorrt-rtx is not used: tensorrt-rtx is not installed"),
        (logging.DEBUG, f"backend cuda is not used: {no_cuda}: {cuda.GPU_INSTALL}"),
        (logging.INFO, f"backend auto: {first.description}"),
    ]


@pytest.mark.parametrize("persons", [1, 3])
def test_openvino_gives_the_same_as_onnxruntime(persons: int):
    folder = Path(emotion_runtime.__file__).parent / "bundles" / "nano"
    rng = np.random.default_rng(persons)
    feeds = {
        "images": rng.integers(0, 256, (2, 112, 112, 3), dtype=np.uint8),
        "frame_index": np.arange(persons) % 2,
        "patch_weights": rng.random((persons, 49), np.float32),
    }
    expected, found = (
        backend(folder / "frame_encoder.onnx").run(feeds)["embeddings"]
        for backend in (OnnxBackend, OpenVinoBackend)
    )
    np.testing.assert_allclose(found, expected, atol=2e-5)  # bfloat16, its default on some CPUs: 1e-2


def test_later_runs_do_not_change_arrays_that_openvino_returned(graph: Path):
    backend = OpenVinoBackend(graph)
    clips = np.ones((2, 4, 4), np.float32)
    first = backend.run({"embeddings": clips})["features"]
    backend.run({"embeddings": 5 * clips})
    np.testing.assert_allclose(first, 1, atol=1e-6)


def test_signals_are_handled_after_models_of_openvino_are_gone(graph: Path):
    """Each core of OpenVINO replaces the stack of signal handlers: the next signal ended the process."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from emotion_runtime.backends.openvino import OpenVinoBackend\n"
        "first, second = OpenVinoBackend(Path(sys.argv[1])), OpenVinoBackend(Path(sys.argv[1]))\n"
        "del first\n"
        "del second\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('handled'))\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    command = [sys.executable, "-c", program, str(graph)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_openvino_is_an_error_if_it_is_not_installed(graph: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EmotionError, match="backend openvino: OpenVINO is not installed: pip install openvi"):
        OpenVinoBackend(graph)


def test_a_graph_that_openvino_cannot_load_is_a_one_line_error(tmp_path: Path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(EmotionError, match=r"^.*broken\.onnx: OpenVINO .* cannot load it \(.+\); .*$"):
        OpenVinoBackend(path)


def test_cuda_by_name_is_an_error_if_it_was_not_built_in(graph: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cuda, "available_providers", lambda: [CPU])
    with pytest.raises(EmotionError, match=r"built without CUDA.*pip install onnxruntime-gpu.*--backend cpu"):
        cuda.open_cuda(graph)


def test_a_precision_is_another_file_of_the_bundle(tiny_bundle: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_bundle, tmp_path / "halved")
    manifest = load_bundle(folder).manifest
    graphs = {}
    for name, graph in manifest.graphs.items():
        # The variant's outputs are half as large, to tell it from the fp32 graph.
        model = onnx.load(folder / graph.file)
        model.graph.node[-1].output[0] = "whole"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.5), "half"))
        output = model.graph.output[0].name
        model.graph.node.append(onnx.helper.make_node("Mul", ["whole", "half"], [output]))
        file = folder / f"{name}.fp16.onnx"
        onnx.save(model, file)
        variant = Variant(file.name, sha256_of(file), graph.opset)
        graphs[name] = msgspec.structs.replace(graph, variants={"fp16": variant})
    write_manifest(msgspec.structs.replace(manifest, graphs=graphs), folder)
    feeds = {"embeddings": np.random.default_rng(0).random((2, 4, 4), np.float32)}
    full, half = (
        open_encoders("cpu", load_bundle(folder), precision)[1].run(feeds)["features"]
        for precision in (None, "fp16")
    )
    np.testing.assert_allclose(half, full / 2, rtol=1e-6)
    with pytest.raises(EmotionError, match="bundle tiny has frame_encoder only in fp32, fp16"):
        open_encoders("cpu", load_bundle(folder), "int8")


@pytest.fixture
def silent_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace ONNX Runtime by one that cannot start CUDA and uses the CPU, as the real one does."""
    real = onnxruntime.InferenceSession

    def session(model: bytes, options: Any, providers: list[Any], **_: Any) -> Any:
        requested = [each if isinstance(each, str) else each[0] for each in providers]
        return real(model, options, providers=[name for name in requested if name != CUDA])

    monkeypatch.setattr(cuda, "available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)


@pytest.mark.usefixtures("silent_fallback")
def test_cuda_by_name_is_an_error_if_it_does_not_start(graph: Path):
    with pytest.raises(EmotionError, match="backend cuda: CUDA did not start"):
        cuda.open_cuda(graph)


@pytest.mark.usefixtures("silent_fallback")
def test_auto_falls_back_and_logs_the_reason(bundle: Bundle, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        assert CPU in open_encoders("auto", bundle)[0].description
    assert "CUDA did not start" in caplog.text


def test_an_unknown_name_is_an_error_that_lists_the_names(bundle: Bundle):
    with pytest.raises(EmotionError, match="backend 'gpu': expected one of auto, cpu, cuda"):
        open_encoders("gpu", bundle)


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_without_onnxruntime(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EmotionError, match="pip install onnxruntime"):
        open_encoders(name, bundle)


def test_an_onnxruntime_of_which_another_package_removed_files(
    graph: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    """Two packages own the module; what is left after removing one is an empty module."""
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    fix = "pip install --force-reinstall onnxruntime"
    with pytest.raises(EmotionError, match=f"ONNX Runtime is incomplete, .*: {fix}"):
        OnnxBackend(graph)
    found = {each.area: each for each in doctor.run_checks(str(tiny_bundle), "cpu")}
    for area in ("providers", "backend"):
        assert found[area].state == doctor.FAIL
        assert fix in found[area].text


def test_a_graph_that_onnxruntime_cannot_read(tmp_path: Path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(EmotionError, match=r"broken\.onnx: ONNX Runtime .* cannot load it"):
        OnnxBackend(path)


def test_weights_outside_the_hashed_file_are_refused(tmp_path: Path):
    weight = onnx.numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    float32 = onnx.TensorProto.FLOAT
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "split",
        [onnx.helper.make_tensor_value_info("x", float32, ["P", 2])],
        [onnx.helper.make_tensor_value_info("y", float32, ["P", 2])],
        [weight],
    )
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "split.onnx"
    onnx.save(model, path, save_as_external_data=True, size_threshold=0, location="split.data")
    with pytest.raises(EmotionError, match="as one file"):
        OnnxBackend(path)


@pytest.mark.parametrize(("version", "spins"), [("1.23.2", "0"), ("1.32.0", None), ("2.0.1", None)])
def test_threads_spin_only_where_the_limit_is_known(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, version: str, spins: str | None
):
    """Without the limit, spinning threads of a session would keep the cores busy for many milliseconds."""
    monkeypatch.setattr(onnxruntime, "__version__", version)
    options = open_graph(tiny_bundle / "frame_encoder.onnx").get_session_options()

    def setting(name: str) -> str | None:
        try:
            return str(options.get_session_config_entry(f"session.{name}"))
        except RuntimeError:  # not set
            return None

    assert setting("intra_op.allow_spinning") == spins
    assert (setting("force_spinning_stop"), setting("intra_op.spin_duration_us")) == (
        (None, None) if spins else ("1", "20")
    )


def test_nvidia_packages_in_another_folder_are_found_and_nothing_is_printed_to_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The wheels of CUDA may lie in another folder of the path than ONNX Runtime."""
    for part in ("cublas", "cudnn"):
        (tmp_path / "nvidia" / part / "lib").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    folders: list[str | None] = []

    def preload(directory: str | None = None) -> None:
        folders.append(directory)
        sys.stdout.write("Failed to load libcublasLt.so.12\n")

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    assert providers_for(CUDA)[-1] == CPU
    assert folders[:2] == [str(tmp_path / "nvidia" / part / "lib") for part in ("cublas", "cudnn")]
    assert folders[-1] is None
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("Failed to load") == 1


def test_a_provider_that_does_not_start_is_one_line_and_no_fallback(
    graph: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The text is that of ONNX Runtime 1.31 on a GPU whose memory is full."""
    text = (
        "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW, void, "
        "Status> onnxruntime::CudaCall(ERRTYPE, const char*, int) [with ERRTYPE = cudaError]"
        "\nCUDA failure 2: out of memory ; GPU=0 ; hostname=vm ; file=provider.cc ; line=355 ; "
    )

    def start(*_: Any, **__: Any) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", start)
    with pytest.raises(EmotionError) as error:
        open_session(graph.read_bytes(), name="model", fix="the fix", providers=(CUDA, CPU))
    version = onnxruntime.__version__
    expected = f"model: ONNX Runtime {version} cannot load it (CUDA failure 2: out of memory); the fix"
    assert str(error.value) == expected
    assert capsys.readouterr() == ("", "")
