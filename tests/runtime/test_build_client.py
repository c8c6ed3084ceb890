"""Engines are built before the first frame of a file; for live sources, while ONNX Runtime serves."""

import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from engine_stand_ins import (
    REJECTED,
    SECONDS,
    TENSORRT_SPEC,
    Cache,
    forbid_writing,
    pretend_installed,
    store_rejected,
)

from emotion_runtime.bundle import load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.names import GRAPHS
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.tensorrt import build_client
from emotion_runtime.tensorrt import cache as engines
from emotion_runtime.types import Detections, EmotionEvent


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that installs a builder: a script that waits for a file and then runs some code."""

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
        (package / "__init__.py").touch()
        (package / "cli.py").write_text(textwrap.dedent(script))
        monkeypatch.setenv("PYTHONPATH", str(package.parent))  # before the installed package
        pretend_installed(monkeypatch, {"tensorrt": TENSORRT_SPEC})
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


def test_the_runtime_serves_while_engines_are_built_and_then_switches(
    cache: Cache, builder: Callable[[str], Path], caplog: pytest.LogCaptureFixture
):
    go = builder("Path(sys.argv[sys.argv.index('--bundle') + 1], 'built').touch()")
    expected = watch(EmotionRuntime(cache.bundle.folder, one_person, "cpu"), 0, 30)
    with caplog.at_level(logging.INFO):
        runtime = EmotionRuntime(cache.bundle.folder, one_person, "tensorrt", live=True)
        events = watch(runtime, 0, 13)
        assert "CPUExecutionProvider" in runtime.backend
        for graph in GRAPHS:  # as the builder's process would do
            cache.store(graph)
        go.touch()
        wait_for("tensorrt engines")
        events += watch(runtime, 13, 30)
    assert runtime.backend == "engine"
    assert (cache.bundle.folder / "built").exists()  # the builder ran, on this bundle
    assert events == expected
    assert [person.state for person in events[-1].persons] == ["steady"]
    assert caplog.messages[1].startswith("building tensorrt engines, which takes minutes; until then: ONNX")
    assert caplog.messages[0].startswith("backend tensorrt, until its engines are built: ONNX Runtime")


def test_a_failed_build_ends_the_run_with_its_message(
    cache: Cache, builder: Callable[[str], Path], caplog: pytest.LogCaptureFixture
):
    """A backend requested by name has no fallback."""
    go = builder("sys.exit('emotion-export trt: error: out of memory')")
    runtime = EmotionRuntime(cache.bundle.folder, one_person, "tensorrt", live=True)
    go.touch()
    wait_for("tensorrt engines")
    with pytest.raises(EmotionError) as caught:
        watch(runtime, 0, 10)
    assert str(caught.value) == (
        "building the engines failed with status 1: emotion-export trt: error: out of memory; or use "
        "--backend cpu"
    )
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]  # no second message


def test_a_file_waits_for_its_engines(
    cache: Cache, tmp_path: Path, builder: Callable[[str], Path], caplog: pytest.LogCaptureFixture
):
    """Whether engines are in the cache or must be built first, the results are those of the engines."""
    made = Cache(tmp_path / "made", cache.bundle)
    made.folder.mkdir()
    for graph in GRAPHS:
        made.store(graph)
    copy = f"shutil.copytree({str(made.folder)!r}, {str(cache.folder)!r}, dirs_exist_ok=True)"
    builder(f"import shutil; sys.stderr.write('frame_encoder: 40 %\\n'); {copy}").touch()
    with caplog.at_level(logging.INFO):
        first = EmotionRuntime(cache.bundle.folder, one_person, "tensorrt")
    assert first.backend == "engine"
    assert caplog.messages[:2] == [
        "building tensorrt engines, which takes minutes; the first frame waits for them",
        "frame_encoder: 40 %",
    ]
    caplog.clear()
    second = EmotionRuntime(cache.bundle.folder, one_person, "tensorrt")
    assert caplog.messages == []
    assert watch(first, 0, 20) == watch(second, 0, 20)


def test_a_file_is_not_read_if_the_build_fails(cache: Cache, builder: Callable[[str], Path]):
    builder("sys.exit('emotion-export trt: error: out of memory')").touch()
    with pytest.raises(EmotionError, match="failed with status 1: emotion-export trt: error: out of memory"):
        EmotionRuntime(cache.bundle.folder, one_person, "tensorrt")


@pytest.mark.parametrize("reason", REJECTED)
def test_a_rejected_engine_is_built_again(
    cache: Cache,
    tmp_path: Path,
    builder: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
    reason: str,
):
    store_rejected(cache, reason)
    go = builder(f"Path({str(tmp_path / 'log')!r}).open('a').write('built ')")
    with caplog.at_level(logging.INFO):
        runtime = EmotionRuntime(cache.bundle.folder, one_person, "tensorrt", live=True)
        assert "CPUExecutionProvider" in runtime.backend
        cache.store("temporal_encoder")
        go.touch()
        wait_for("tensorrt engines")
        watch(runtime, 0, 10)
    assert runtime.backend == "engine"
    assert (tmp_path / "log").read_text() == "built "
    assert REJECTED[reason] in caplog.messages[0]
    assert caplog.messages[0].startswith("backend tensorrt: ")
    assert caplog.messages[1].startswith("backend tensorrt, until its engines are built: ONNX Runtime")


def test_engines_are_built_while_serving_although_the_cache_is_not_writable(
    cache: Cache, tmp_path: Path, builder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    """Both processes must use the same temporary folder."""
    made = Cache(tmp_path / "made", cache.bundle)
    made.folder.mkdir()
    for graph in GRAPHS:
        made.store(graph)
    forbid_writing(cache.folder, monkeypatch)
    cache_argument = "sys.argv[sys.argv.index('--cache') + 1]"
    go = builder(
        f"import shutil; shutil.copytree({str(made.folder)!r}, {cache_argument}, dirs_exist_ok=True)"
    )
    runtime = EmotionRuntime(cache.bundle.folder, one_person, "tensorrt", live=True)
    go.touch()
    wait_for("tensorrt engines")
    watch(runtime, 0, 10)
    assert runtime.backend == "engine"
    assert not list(cache.folder.iterdir())


def test_the_real_builder_accepts_the_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # do not build on a machine with a GPU
    monkeypatch.setenv(engines.CACHE_VARIABLE, str(tmp_path))
    for flavor in ("tensorrt", "tensorrt-rtx"):
        command = build_client.builder_command(
            build_client.bundle_arguments(load_bundle("nano"), flavor, "fp32")
        )
        assert command is not None
        # It stops because there is no GPU; a wrong option would be another error.
        with pytest.raises(
            EmotionError, match=r"status 2: emotion-export trt: error: (no usable GPU|CUDA|tensorrt)"
        ):
            build_client.run_builder(command)


def test_a_builder_that_is_killed_is_told_from_one_that_fails():
    """On a board with little memory, the system kills it."""
    program = "import os, sys; sys.stderr.write('frame_encoder: building'); os.kill(os.getpid(), 9)"
    with pytest.raises(EmotionError, match=r"killed \(frame_encoder: building\).* memory is full: close"):
        build_client.run_builder([sys.executable, "-c", program])


def test_the_builder_ends_with_the_program(tmp_path: Path):
    """A user who stops the runtime after ten seconds does not want the GPU busy for ten minutes."""
    mark = tmp_path / "pid"
    sleeper = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    code = (
        "import sys, threading, time; from pathlib import Path\n"
        "from emotion_runtime.tensorrt import build_client\n"
        "command = [sys.executable, '-c', sys.argv[1]]\n"
        "threading.Thread(target=build_client.run_builder, args=(command,), daemon=True).start()\n"
        "while not Path(sys.argv[2]).exists() or not Path(sys.argv[2]).read_text(): time.sleep(0.01)\n"
    )
    subprocess.run([sys.executable, "-c", code, sleeper, str(mark)], check=True, timeout=SECONDS)
    process, deadline = Path("/proc", mark.read_text()), time.monotonic() + SECONDS
    while process.exists() and "\nState:\tZ" not in (process / "status").read_text():
        assert time.monotonic() < deadline, "the builder goes on"
        time.sleep(0.05)


def test_a_builder_may_print_what_is_no_text():
    code = "import sys; sys.stderr.buffer.write(b'ptxas: \\xff fails\\n'); sys.exit(3)"
    with pytest.raises(EmotionError, match="failed with status 3: ptxas: \ufffd fails"):
        build_client.run_builder([sys.executable, "-c", code])


def test_builders_can_be_stopped_from_another_thread():
    """A signal ends the process at once although the main thread waits for an engine."""
    failed: list[EmotionError] = []

    def build() -> None:
        try:
            build_client.run_builder([sys.executable, "-c", "import time; time.sleep(600)"])
        except EmotionError as error:
            failed.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    while thread.is_alive():
        build_client.stop_builders()
        thread.join(0.01)
    assert "failed with status -15" in str(failed[0])
