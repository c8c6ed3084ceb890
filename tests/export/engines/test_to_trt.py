"""emotion-export trt: the files that it writes, its messages, and that it leaves no partial files."""

import errno
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import onnx
import pytest
from filelock import FileLock
from trt_stand_ins import AHEAD, Main, files_in, only_line

from emotion_export.progress import Progress
from emotion_runtime.bundle import load_bundle, sha256_of
from emotion_runtime.tensorrt import cache as engines
from emotion_runtime.tensorrt.build_client import detector_arguments
from emotion_runtime.tensorrt.cache import read_sidecars
from emotion_runtime.tensorrt.gpu import is_installed


@pytest.mark.slow
def test_ahead_of_time_for_the_shipped_bundle(
    to_trt: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Real parser, real builder, no GPU: so the sidecar records that parity was not checked."""
    assert to_trt("--bundle", "nano", *AHEAD, "--cache", tmp_path) == 0
    frame, temporal = sorted(read_sidecars(tmp_path), key=lambda sidecar: sidecar.key.graph)
    manifest = load_bundle("nano").manifest
    for sidecar in (frame, temporal):
        key = sidecar.key
        assert key.sources["fp32"] == manifest.graphs[key.graph].sha256
        assert (key.gpu, key.compute_capability, key.precision) == ("", "8.6", "ladder")
        assert (key.persons, key.images) == (16, 16)
        assert (sidecar.precision, sidecar.checked_on) == ("fp16", "")
        assert sidecar.layer_types["fp16"] > sidecar.layer_types["fp32"]
        assert (sidecar.loaded_types, sidecar.parity) == ({}, [])
    captured = capsys.readouterr()
    out = captured.out + captured.err
    assert out.count("building (not built yet)") == 2
    assert out.count("fp16, ") == 2
    assert f"next: on a GPU of SM86, EMOTION_ENGINE_CACHE={tmp_path} emotion-runtime --bundle nano " in out
    before = {path: path.stat().st_mtime_ns for path in files_in(tmp_path)}
    assert len(before) == 4
    assert to_trt("--bundle", "nano", *AHEAD, "--cache", tmp_path) == 0
    assert "building" not in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in files_in(tmp_path)} == before


def test_a_truncated_engine_is_built_again_once(
    to_trt: Main, quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ("--bundle", "nano", *AHEAD, "--cache", tmp_path)
    assert to_trt(*arguments) == 0
    (truncated,) = tmp_path.glob("temporal*.engine")
    whole = truncated.read_bytes()
    truncated.write_bytes(whole[:-1])
    quick.clear()
    assert to_trt(*arguments) == 0
    assert quick == ["temporal_encoder"]
    assert "is corrupt" in capsys.readouterr().err
    assert truncated.read_bytes() == whole
    assert to_trt(*arguments) == 0
    assert quick == ["temporal_encoder"]


@pytest.mark.usefixtures("quick")
def test_leftovers_of_a_killed_build_are_removed_by_the_next(to_trt: Main, tmp_path: Path):
    left = tmp_path / ".frame_encoder-0123456789abcdef.engine.0123456789abcdef.tmp"
    left.write_bytes(b"half an engine")
    assert to_trt("--bundle", "nano", *AHEAD, "--cache", tmp_path) == 0
    assert not left.exists()
    assert len(read_sidecars(tmp_path)) == 2


def test_two_processes_do_not_build_the_same_engines(
    to_trt: Main, quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """What another process builds in the folder meanwhile is waited for, and taken."""
    done, shared = tmp_path / "done", tmp_path / "shared"
    assert to_trt("--bundle", "nano", *AHEAD, "--cache", done) == 0
    quick.clear()
    shared.mkdir()
    other = FileLock(shared / ".lock")
    other.acquire()
    statuses: list[int] = []
    waiting = threading.Thread(
        target=lambda: statuses.append(to_trt("--bundle", "nano", *AHEAD, "--cache", shared))
    )
    waiting.start()
    messages = ""
    while "another process builds engines in" not in messages and waiting.is_alive():
        messages += capsys.readouterr().err
        time.sleep(0.01)
    assert waiting.is_alive()
    for path in files_in(done):
        shutil.copy(path, shared)
    other.release()
    waiting.join(timeout=60)
    assert statuses == [0]
    assert quick == []


def test_other_options_are_other_engines(to_trt: Main, quick: list[str], tmp_path: Path):
    options = ([], ["--max-persons", "8"], ["--max-frames", "1"], ["--precision", "fp32"])
    for number, option in enumerate(options, start=1):
        assert to_trt("--bundle", "nano", *AHEAD, "--out", tmp_path / "new", *option) == 0
        assert len(quick) == 2 * number
        assert len(files_in(tmp_path / "new")) == 4 * number
    assert {(s.key.persons, s.key.images, s.precision) for s in read_sidecars(tmp_path / "new")} == {
        (16, 16, "fp16"),
        (8, 8, "fp16"),
        (16, 1, "fp16"),
        (16, 16, "fp32"),
    }


@pytest.mark.slow
def test_ctrl_c_in_a_build_leaves_no_half_engine(
    to_trt: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A real signal in a real build, of the second engine: the first one is kept."""
    start, builds, interrupted = Progress.phase_start, list[str](), list[str]()

    def start_and_interrupt(self: Progress, name: str, parent: str | None, steps: int) -> None:
        start(self, name, parent, steps)
        builds.extend([name] if parent is None else [])
        if len(builds) == 2 and parent is not None and not interrupted:
            interrupted.append(name)  # a second one would end this process
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "phase_start", start_and_interrupt)
    handler = signal.getsignal(signal.SIGINT)
    assert to_trt("--bundle", "nano", *AHEAD, "--cache", tmp_path) == 130
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(builds) == 2
    assert sorted(path.suffix for path in files_in(tmp_path)) == [".engine", ".json"]
    assert [sidecar.key.graph for sidecar in read_sidecars(tmp_path)] == ["frame_encoder"]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "emotion-export trt: stopped; finished engines are kept, the unfinished one was discarded"
    monkeypatch.undo()
    assert to_trt("--bundle", "nano", *AHEAD, "--cache", tmp_path) == 0
    assert "frame_encoder: building" not in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_a_full_disk(
    to_trt: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(engines.os, "fsync", full)
    assert to_trt("--bundle", "nano", *AHEAD, "--cache", tmp_path) == 2
    assert "No space left on device" in only_line(capsys)
    assert files_in(tmp_path) == []


@pytest.mark.usefixtures("quick")
def test_a_cache_that_is_not_writable(to_trt: Main, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "file").write_text("")
    assert to_trt("--bundle", "nano", *AHEAD, "--cache", tmp_path / "file" / "cache") == 0
    (line,) = [message for message in caplog.messages if "not writable" in message]
    assert "is not writable (Not a directory): using " in line
    folder = Path(line.split("using ")[1].split(",")[0])
    assert len(read_sidecars(folder)) == 2
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def test_an_output_folder_that_cannot_be_created(
    to_trt: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Asked for by name, so nothing else will do."""
    (tmp_path / "file").write_text("")
    assert to_trt("--bundle", "nano", *AHEAD, "--out", tmp_path / "file" / "out") == 2
    assert "--out" in only_line(capsys)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no folder that even root cannot write to")
def test_an_output_folder_is_tried_before_the_build(
    to_trt: Main, quick: list[str], capsys: pytest.CaptureFixture[str]
):
    assert to_trt("--bundle", "nano", *AHEAD, "--out", "/proc") == 2
    assert "--out /proc is not writable" in only_line(capsys)
    assert not quick


@pytest.mark.parametrize("graph", ["frame_encoder", "temporal_encoder"])
def test_a_graph_of_a_fixed_batch_is_refused(
    to_trt: Main, quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], graph: str
):
    """As other exporters write it, under a manifest that says otherwise."""
    folder = tmp_path / "fixed"
    shutil.copytree(load_bundle("nano").folder, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    path = folder / manifest["graphs"][graph]["file"]
    model = onnx.load(path)
    value = model.graph.input[-1]
    value.type.tensor_type.shape.dim[0].dim_value = 3
    onnx.save(model, path)
    manifest["graphs"][graph]["sha256"] = sha256_of(path)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    assert to_trt("--bundle", folder, *AHEAD, "--cache", tmp_path / "cache") == 2
    line = only_line(capsys)
    assert f"{path}: input {value.name} has a fixed batch of 3, expected any number" in line
    assert graph not in quick


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --bundle NAME|DIR, or --detector face|FILE.onnx"),
        (["--bundle", "absent", *AHEAD], "bundle 'absent' not found"),
        (
            ["--bundle", "nano", *AHEAD, "--precision", "fp16"],
            "has frame_encoder only in fp32, int8",
        ),
        (["--bundle", "nano", "--flavor", "rtx", "--target", "Orin"], "target 'Orin' is not known"),
        (["--bundle", "nano", "--flavor", "rtx", "--target", "SM999"], "newer than this builder"),
        (["--bundle", "nano", *AHEAD, "--max-persons", "0"], "expected 1 or more"),
        (["--bundle", "nano", *AHEAD, "--workspace", "-1"], "expected 1 or more"),
        (["--detector", "face", *AHEAD, "--precision", "int8"], "--precision int8: a detector has none"),
        (["--detector", "absent.onnx", *AHEAD], "detector absent.onnx: no such file"),
        (["--bundle", "nano", "--detector", "faces", *AHEAD], "detector 'faces': expected `face` or"),
        (["--detector", "face", *AHEAD, "--detector-size", "9"], "detector size 9: expected `auto` or"),
        (["--detector", "face", *AHEAD, "--frame-size", "640"], "'640': expected WIDTHxHEIGHT in pixels"),
    ],
)
def test_mistakes_are_one_line(
    to_trt: Main, tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
):
    assert to_trt(*arguments, "--cache", tmp_path) == 2
    assert words in only_line(capsys)
    assert files_in(tmp_path) == []


@pytest.mark.skipif(is_installed("tensorrt"), reason="TensorRT is installed")
def test_without_tensorrt_the_error_names_three_ways_to_install_it(
    to_trt: Main, capsys: pytest.CaptureFixture[str]
):
    assert to_trt("--bundle", "nano") == 2
    line = only_line(capsys)
    assert "tensorrt is not installed" in line
    assert "Jetson: sudo apt install python3-libnvinfer" in line
    assert "--system-site-packages" in line
    assert "discrete GPU: pip install tensorrt." in line
    assert "RTX card, or without a GPU: pip install tensorrt-rtx" in line


def test_without_any_tensorrt(
    to_trt: Main, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert to_trt("--bundle", "nano", "--flavor", "rtx") == 2
    assert "tensorrt-rtx is not installed" in only_line(capsys)


def test_one_engine_for_several_architectures(to_trt: Main, quick: list[str], tmp_path: Path):
    arguments = ["--bundle", "nano", "--flavor", "rtx", "--target", "sm80, SM86,SM80", "--cache", tmp_path]
    assert to_trt(*arguments) == 0
    assert len(quick) == 2
    assert {sidecar.key.compute_capability for sidecar in read_sidecars(tmp_path)} == {"8.0 8.6"}


def test_tensorrt_has_no_targets(to_trt: Main, capsys: pytest.CaptureFixture[str]):
    assert to_trt("--bundle", "nano", "--target", "SM86") == 2
    assert "only on the GPU that will run it: leave --target out" in only_line(capsys)


def test_the_detector_is_built_with_the_encoders_for_usual_frames(
    to_trt: Main, quick: list[str], tmp_path: Path
):
    for _ in range(2):
        assert to_trt("--bundle", "nano", "--detector", "face", *AHEAD, "--cache", tmp_path) == 0
    assert quick == ["frame_encoder", "temporal_encoder", "face_480x384", "face_640x384"]
    (face,) = [each for each in read_sidecars(tmp_path) if each.key.graph == "face_640x384"]
    assert (face.precision, face.checked_on, face.key.precision) == ("fp16", "", "ladder")
    assert (face.key.persons, face.key.images) == (8, 8)


def test_a_detector_is_built_once_for_each_size_of_its_input(to_trt: Main, quick: list[str], tmp_path: Path):
    sizes = ["--frame-size", "1920x1080", "--frame-size", "1900x1070", "--frame-size", "320x240"]
    assert to_trt("--detector", "face", *sizes, *AHEAD, "--precision", "fp32", "--out", tmp_path) == 0
    assert quick == ["face_960x544", "face_320x256"]
    assert {each.precision for each in read_sidecars(tmp_path)} == {"fp32"}


def test_a_size_of_the_input_can_be_asked_for_directly(to_trt: Main, quick: list[str], tmp_path: Path):
    """As the runtime does, which has only the input."""
    arguments = detector_arguments("face", (384, 640), "tensorrt-rtx", "ladder")
    assert to_trt(*arguments, "--target", "SM86", "--out", tmp_path) == 0
    assert quick == ["face_640x384"]


def test_a_file_that_takes_one_image_has_an_engine_for_one(
    to_trt: Main, quick: list[str], tmp_path: Path, shared_data: Path
):
    path = shared_data / "weights" / "yolox_nano_416_coco.onnx"
    assert to_trt("--detector", path, *AHEAD, "--out", tmp_path) == 0
    assert quick == ["yolox_nano_416_coco_416x416"]
    (sidecar,) = read_sidecars(tmp_path)
    assert (sidecar.key.persons, sidecar.key.images) == (1, 1)


@pytest.mark.slow
def test_ahead_of_time_for_the_default_detector(to_trt: Main, tmp_path: Path):
    """Real parser, real builder, no GPU."""
    assert to_trt("--detector", "face", "--frame-size", "320x240", *AHEAD, "--out", tmp_path) == 0
    (sidecar,) = read_sidecars(tmp_path)
    assert (sidecar.precision, sidecar.checked_on) == ("fp16", "")
    assert sidecar.layer_types["fp16"] > sidecar.layer_types["fp32"]
