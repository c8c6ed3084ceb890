"""Engines from the cache, or built meanwhile. An engine here is an ONNX file, run by ONNX Runtime."""

import errno
import hashlib
import importlib.util
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from emotion_runtime import engines, gate, nvidia
from emotion_runtime.backends import native, open_encoders
from emotion_runtime.backends.base import Feeds, Outputs, Unavailable
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.backends.onnx import open_session
from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.doctor import FAIL, WARN, inference
from emotion_runtime.engines import EngineKey, EngineRefused, Sidecar, Verdict
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import GraphName
from emotion_runtime.nvidia import Gpu
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.types import Detections, EmotionEvent

GPU = Gpu("NVIDIA Test", "8.6", "12.6")
UNLOADABLE = b"of another driver"
PASSED = Verdict("passed", gpu=GPU.name, driver=GPU.driver)
VERSION = " 10.3.0 Test"
BUILDER = f"tensorrt{VERSION}"
SPEC = ModuleSpec("tensorrt", None)
SECONDS = 60  # a thread that hangs is an error, not a wait


class StandIn:
    """Runs what is in the "engine", which is an ONNX file."""

    description = "engine"

    def __init__(self, engine: bytes, *, flavor: str) -> None:
        assert flavor == "tensorrt"
        if engine == UNLOADABLE:
            raise EngineRefused("the engine cannot be loaded by TensorRT")
        self._session = open_session(engine, name="engine", fix="none")

    def run(self, feeds: Feeds) -> Outputs:
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))


@dataclass(frozen=True)
class Cache:
    """An engine cache for a bundle on a GPU that is not there."""

    folder: Path
    bundle: Bundle

    def key(self, graph: GraphName) -> EngineKey:
        return engines.engine_key(
            self.bundle, graph, builder=BUILDER, gpu=GPU, precision="ladder", limits=Limits()
        )

    def store(
        self, graph: GraphName, *, content: bytes | None = None, verdict: Verdict | None = None
    ) -> None:
        content = content or self.bundle.graph_path(graph).read_bytes()
        stored = sidecar(self.key(graph), content, verdict or PASSED)
        engines.store_engine(self.folder, content, stored)


def sidecar(key: EngineKey, content: bytes, verdict: Verdict) -> Sidecar:
    return Sidecar(
        schema=engines.SIDECAR_SCHEMA,
        key=key,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        precision="fp32",
        verdict=verdict,
        fp32_layers=[],
        layer_types={},
        layer_types_of="engine",
        refused=[],
        build_seconds=1.0,
    )


def pretend_installed(monkeypatch: pytest.MonkeyPatch, specs: dict[str, ModuleSpec | None]) -> None:
    real = find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: specs[name] if name in specs else real(name)
    )


@pytest.fixture
def cache(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """TensorRT and a GPU that start, and an empty cache."""
    monkeypatch.setenv(engines.CACHE_VARIABLE, str(tmp_path / "engines"))
    pretend_installed(monkeypatch, {"tensorrt": SPEC})
    monkeypatch.setattr(nvidia, "load_tensorrt", lambda flavor: flavor)
    monkeypatch.setattr(nvidia, "builder_name", lambda flavor, _library: f"{flavor}{VERSION}")
    monkeypatch.setattr(nvidia, "find_gpu", lambda: GPU)
    monkeypatch.setattr(native, "TensorRTBackend", StandIn)
    return Cache(engines.cache_folder(), load_bundle(tiny_bundle))


def clips(persons: int = 3) -> Feeds:
    return {"embeddings": np.random.default_rng(persons).random((persons, 4, 4), np.float32)}


def test_engines_of_the_cache_are_taken(cache: Cache):
    for graph in native.ENCODERS:
        cache.store(graph)
    for name in ("tensorrt", "auto"):
        _, temporal = open_encoders(name, cache.bundle)
        assert temporal.description == "engine"
        expected = np.einsum("t,ptd->pd", [0.1, 0.2, 0.3, 0.4], clips()["embeddings"])
        np.testing.assert_allclose(temporal.run(clips())["features"], expected, atol=1e-6)


def test_a_missing_engine_is_one_line_with_the_command_where_no_builder_is_installed(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
):
    cache.store("frame_encoder")
    pretend_installed(monkeypatch, {"tensorrt": SPEC, "emotion_export": None})
    with pytest.raises(Unavailable) as caught:
        open_encoders("tensorrt", cache.bundle)
    assert str(caught.value) == (
        "backend tensorrt: no engine of temporal_encoder (there is none yet): python export/to_trt.py "
        f"--bundle {cache.bundle.folder} --flavor tensorrt, or use --backend cpu"
    )


def test_auto_builds_nothing_and_says_how_to(cache: Cache, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        frame, _ = open_encoders("auto", cache.bundle)
    assert "CPUExecutionProvider" in frame.description
    (message,) = caplog.messages
    assert f"python export/to_trt.py --bundle {cache.bundle.folder} --flavor tensorrt;" in message


@pytest.mark.parametrize(("builder", "state"), [([sys.executable], WARN), (None, FAIL)])
def test_the_doctor_builds_nothing(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, builder: list[str] | None, state: str
):
    monkeypatch.setattr(native, "builder_command", lambda *_: builder)
    monkeypatch.setattr(native, "engines_behind", None)
    (finding,) = inference.backend(str(cache.bundle.folder), "tensorrt")
    assert finding.state == state
    assert finding.text == "tensorrt: no engine of frame_encoder (there is none yet)"
    assert finding.fix == f"python export/to_trt.py --bundle {cache.bundle.folder} --flavor tensorrt"


def test_no_gpu_is_unavailable(cache: Cache, monkeypatch: pytest.MonkeyPatch):
    def none() -> Gpu:
        raise EmotionError("no GPU is to be had (cudaErrorNoDevice): see what nvidia-smi says")

    monkeypatch.setattr(nvidia, "find_gpu", none)
    with pytest.raises(Unavailable) as caught:
        open_encoders("tensorrt", cache.bundle)
    assert str(caught.value) == (
        "backend tensorrt: no GPU is to be had (cudaErrorNoDevice): see what nvidia-smi says; "
        "or use --backend cpu"
    )
    assert caught.value.brief == "no GPU is to be had (cudaErrorNoDevice)"


def test_engines_are_only_given_the_sizes_they_were_built_for(cache: Cache, monkeypatch: pytest.MonkeyPatch):
    for graph in native.ENCODERS:
        cache.store(graph)
    sizes: list[int] = []
    run = StandIn.run

    def counted(self: StandIn, feeds: Feeds) -> Outputs:
        sizes.append(len(feeds["embeddings"]))
        return run(self, feeds)

    monkeypatch.setattr(StandIn, "run", counted)
    _, temporal = open_encoders("tensorrt", cache.bundle)
    assert len(temporal.run(clips(22))["features"]) == 22
    assert sizes == [16, 8]


def not_the_model(folder: Path) -> bytes:
    """The temporal encoder, with the oldest frame weighted instead of the newest."""
    model = onnx.load(folder / "temporal_encoder.onnx")
    (ramp,) = [each for each in model.graph.initializer if each.name == "ramp"]
    turned = onnx.numpy_helper.to_array(ramp)[::-1]
    ramp.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(turned), "ramp"))
    return bytes(model.SerializeToString())


def test_an_engine_built_ahead_of_time_is_held_against_the_graph_once(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
):
    for graph in native.ENCODERS:
        cache.store(graph, verdict=Verdict("not run"))
    open_encoders("tensorrt", cache.bundle)
    for graph in native.ENCODERS:
        found = engines.find_engine(cache.folder, cache.key(graph))
        assert isinstance(found, engines.Found)
        assert found.sidecar.verdict.parity_gate == "passed"
        assert {row.graph for row in found.sidecar.verdict.parity} == {graph}
    monkeypatch.setattr(gate, "make_exam", None)  # the second time it is believed
    open_encoders("tensorrt", cache.bundle)


@pytest.mark.parametrize(
    "elsewhere",
    [Verdict("passed", gpu="Other Test", driver="12.6"), Verdict("passed", gpu="NVIDIA Test", driver="13.0")],
)
def test_a_verdict_of_another_gpu_or_driver_is_not_believed(cache: Cache, elsewhere: Verdict):
    """Two GPUs of one compute capability share what was built ahead of time, and its sidecar."""
    cache.store("frame_encoder")
    cache.store("temporal_encoder", verdict=elsewhere)
    open_encoders("tensorrt", cache.bundle)
    found = engines.find_engine(cache.folder, cache.key("temporal_encoder"))
    assert isinstance(found, engines.Found)
    assert found.sidecar.verdict.parity  # the exam was sat, here
    assert found.sidecar.verdict.holds_on(GPU)


@pytest.fixture
def no_builder(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - set up before it
    """Of TensorRT there is only the runtime."""
    pretend_installed(monkeypatch, {"tensorrt": SPEC, "emotion_export": None})


def refuse(cache: Cache, reason: str) -> None:
    """Store engines, of which that of the temporal encoder may not run."""
    cache.store("frame_encoder")
    if reason == "unloadable":
        cache.store("temporal_encoder", content=UNLOADABLE)
    else:
        cache.store(
            "temporal_encoder", content=not_the_model(cache.bundle.folder), verdict=Verdict("not run")
        )


REFUSED = {
    "unloadable": "the engine cannot be loaded",
    "not the model": "the engine of temporal_encoder is not the model on this GPU",
}


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.usefixtures("no_builder")
def test_an_engine_that_may_not_run_is_told_and_counts_as_not_built(
    cache: Cache, caplog: pytest.LogCaptureFixture, reason: str
):
    refuse(cache, reason)
    with pytest.raises(Unavailable, match=rf"{REFUSED[reason]} .*: python export/to_trt") as caught:
        open_encoders("tensorrt", cache.bundle)
    assert "\n" not in str(caught.value)
    # The command that is told builds what it does not find.
    assert isinstance(engines.find_engine(cache.folder, cache.key("temporal_encoder")), engines.Unusable)
    assert isinstance(engines.find_engine(cache.folder, cache.key("frame_encoder")), engines.Found)
    # The best that works is another one, and what is broken is worth a warning.
    refuse(cache, reason)
    with caplog.at_level(logging.INFO):
        assert "CPUExecutionProvider" in open_encoders("auto", cache.bundle)[0].description
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert REFUSED[reason] in record.message


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.usefixtures("no_builder")
def test_when_the_best_engine_may_not_run_the_next_one_does(
    cache: Cache, caplog: pytest.LogCaptureFixture, reason: str
):
    refuse(cache, reason)
    content = cache.bundle.graph_path("temporal_encoder").read_bytes()
    ahead = msgspec.structs.replace(cache.key("temporal_encoder"), gpu="")
    engines.store_engine(cache.folder, content, sidecar(ahead, content, Verdict("not run")))
    _, temporal = open_encoders("tensorrt", cache.bundle)
    expected = np.einsum("t,ptd->pd", [0.1, 0.2, 0.3, 0.4], clips()["embeddings"])
    np.testing.assert_allclose(temporal.run(clips())["features"], expected, atol=1e-6)
    (message,) = caplog.messages
    assert REFUSED[reason] in message
    assert message.endswith(": going on with another one")


def test_auto_passes_over_engines_that_load_and_do_not_run(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    closed: list[StandIn] = []

    def fail(_self: StandIn, _feeds: Feeds) -> Outputs:
        raise RuntimeError("enqueueV3\nfailed")

    def close(self: StandIn) -> None:
        closed.append(self)

    for graph in native.ENCODERS:
        cache.store(graph)
    monkeypatch.setattr(StandIn, "run", fail)
    monkeypatch.setattr(StandIn, "close", close, raising=False)
    with caplog.at_level(logging.INFO):
        assert "CPUExecutionProvider" in open_encoders("auto", cache.bundle)[0].description
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "engine opens and does not run (enqueueV3 failed)" in record.message
    assert len(closed) == 2


@pytest.mark.usefixtures("no_builder")
def test_what_was_loaded_is_closed_when_the_other_engine_is_not_there(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
):
    closed: list[StandIn] = []

    def close(self: StandIn) -> None:
        closed.append(self)

    monkeypatch.setattr(StandIn, "close", close, raising=False)
    cache.store("frame_encoder")
    with pytest.raises(Unavailable, match="no engine of temporal_encoder"):
        open_encoders("tensorrt", cache.bundle)
    refuse(cache, "not the model")
    with pytest.raises(Unavailable, match="not the model"):
        open_encoders("tensorrt", cache.bundle)
    assert len(closed) == 3


@pytest.mark.usefixtures("no_builder")
def test_engines_of_a_read_only_cache_are_taken(cache: Cache, monkeypatch: pytest.MonkeyPatch):
    """As baked into the image of a container."""
    for graph in native.ENCODERS:
        cache.store(graph, verdict=Verdict("not run"))
    before = {path: path.read_bytes() for path in cache.folder.iterdir()}
    forbid_writing(cache.folder, monkeypatch)
    for _ in range(2):
        assert open_encoders("tensorrt", cache.bundle)[0].description == "engine"
    assert {path: path.read_bytes() for path in cache.folder.iterdir()} == before


def forbid_writing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For root, too, who may write where nobody may."""
    real = engines.tempfile.TemporaryFile

    def refuse(dir: Path) -> object:  # noqa: A002 - tempfile's name
        if dir == folder:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(dir=dir)

    monkeypatch.setattr(engines.tempfile, "TemporaryFile", refuse)


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Installs a builder: a script in a process of its own, which begins by waiting for a file."""

    def install(body: str) -> Path:
        package, go = tmp_path / "export" / "emotion_export", tmp_path / "go"
        package.mkdir(parents=True)
        script = f"""
            import sys, time
            from pathlib import Path
            while not Path({str(go)!r}).exists():
                time.sleep(0.01)
            {body}
            """
        (package.parent / "to_trt.py").write_text(textwrap.dedent(script))

        spec = ModuleSpec("emotion_export", None)
        spec.submodule_search_locations = [str(package)]
        pretend_installed(monkeypatch, {"tensorrt": SPEC, "emotion_export": spec})
        return go

    return install


def one_person(_image_bgr: np.ndarray) -> Detections:
    return Detections(np.array([(16, 24, 48, 64)], np.float32), np.array([0.9], np.float32))


def watch(runtime: EmotionRuntime, start: int, end: int) -> list[EmotionEvent]:
    return [
        runtime.step(np.random.default_rng(i).integers(0, 256, (96, 128, 3), dtype=np.uint8), i / 10)
        for i in range(start, end)
    ]


def wait_for(thread_name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == thread_name:
            thread.join(SECONDS)
            assert not thread.is_alive()


def test_the_runtime_serves_while_engines_are_built_and_goes_on_with_them(
    cache: Cache, builder: Callable[[str], Path], caplog: pytest.LogCaptureFixture
):
    go = builder("Path(sys.argv[sys.argv.index('--bundle') + 1], 'built').touch()")
    expected = watch(EmotionRuntime(cache.bundle.folder, one_person, "cpu"), 0, 30)
    with caplog.at_level(logging.INFO):
        runtime = EmotionRuntime(cache.bundle.folder, one_person, "tensorrt")
        events = watch(runtime, 0, 13)
        assert "CPUExecutionProvider" in runtime.backend
        for graph in native.ENCODERS:  # what the builder's process would do
            cache.store(graph)
        go.touch()
        wait_for("tensorrt engines")
        events += watch(runtime, 13, 30)
    assert runtime.backend == "engine"
    assert (cache.bundle.folder / "built").exists()  # the builder ran, on this bundle
    assert events == expected
    assert [person.state for person in events[-1].persons] == ["steady"]
    assert caplog.messages[1].startswith("building tensorrt engines, which takes minutes; meanwhile on ONNX")
    assert caplog.messages[0].startswith("backend tensorrt, until its engines are built: ONNX Runtime")


def test_a_builder_that_fails_ends_the_run_in_its_own_words(
    cache: Cache, builder: Callable[[str], Path], caplog: pytest.LogCaptureFixture
):
    """One asked for by name and not had is an error."""
    go = builder("sys.exit('to_trt: error: out of memory')")
    runtime = EmotionRuntime(cache.bundle.folder, one_person, "tensorrt")
    go.touch()
    wait_for("tensorrt engines")
    with pytest.raises(Unavailable) as caught:
        watch(runtime, 0, 10)
    assert str(caught.value) == (
        "backend tensorrt: building failed with status 1: to_trt: error: out of memory; or use --backend cpu"
    )
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]  # once is enough


@pytest.mark.parametrize("reason", REFUSED)
def test_an_engine_that_may_not_run_is_built_anew(
    cache: Cache,
    tmp_path: Path,
    builder: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
    reason: str,
):
    refuse(cache, reason)
    go = builder(f"Path({str(tmp_path / 'log')!r}).open('a').write('built ')")
    with caplog.at_level(logging.INFO):
        runtime = EmotionRuntime(cache.bundle.folder, one_person, "tensorrt")
        assert "CPUExecutionProvider" in runtime.backend
        cache.store("temporal_encoder")
        go.touch()
        wait_for("tensorrt engines")
        watch(runtime, 0, 10)
    assert runtime.backend == "engine"
    assert (tmp_path / "log").read_text() == "built "
    assert REFUSED[reason] in caplog.messages[0]
    assert caplog.messages[0].startswith("backend tensorrt: ")
    assert caplog.messages[1].startswith("backend tensorrt, until its engines are built: ONNX Runtime")


def test_an_unwritable_cache_is_no_obstacle_to_building_while_serving(
    cache: Cache, tmp_path: Path, builder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    """Both processes have to use the same temporary folder."""
    made = Cache(tmp_path / "made", cache.bundle)
    made.folder.mkdir()
    for graph in native.ENCODERS:
        made.store(graph)
    forbid_writing(cache.folder, monkeypatch)
    told = "sys.argv[sys.argv.index('--cache') + 1]"
    go = builder(f"import shutil; shutil.copytree({str(made.folder)!r}, {told}, dirs_exist_ok=True)")
    runtime = EmotionRuntime(cache.bundle.folder, one_person, "tensorrt")
    go.touch()
    wait_for("tensorrt engines")
    watch(runtime, 0, 10)
    assert runtime.backend == "engine"
    assert not list(cache.folder.iterdir())


def test_the_real_builder_takes_what_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # it must not begin to build where there is a GPU
    monkeypatch.setenv(engines.CACHE_VARIABLE, str(tmp_path))
    for flavor in ("tensorrt", "tensorrt-rtx"):
        command = native.builder_command(load_bundle("nano"), flavor, "fp32")
        assert command is not None
        # Without a GPU, it gets as far as saying so; "to_trt.py: error" would be argparse.
        with pytest.raises(EmotionError, match=r"status 2: to_trt: error: (no GPU|CUDA|tensorrt)"):
            native.run_builder(command)


def test_a_builder_does_not_outlive_the_program(tmp_path: Path):
    """Who ends the runtime after ten seconds does not want a GPU busy for ten minutes."""
    mark = tmp_path / "pid"
    sleeper = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    code = (
        "import sys, threading, time; from pathlib import Path; from emotion_runtime.backends import native\n"
        "command = [sys.executable, '-c', sys.argv[1]]\n"
        "threading.Thread(target=native.run_builder, args=(command,), daemon=True).start()\n"
        "while not Path(sys.argv[2]).exists() or not Path(sys.argv[2]).read_text(): time.sleep(0.01)\n"
    )
    subprocess.run([sys.executable, "-c", code, sleeper, str(mark)], check=True, timeout=SECONDS)
    process, deadline = Path("/proc", mark.read_text()), time.monotonic() + SECONDS
    while process.exists() and "\nState:\tZ" not in (process / "status").read_text():
        assert time.monotonic() < deadline, "the builder goes on"
        time.sleep(0.05)
