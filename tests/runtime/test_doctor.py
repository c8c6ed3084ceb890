"""The doctor reports what is wrong with a machine, and how to fix it."""

import json
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from command_runs import run
from doctor_installs import install

from emotion_runtime import doctor
from emotion_runtime.backends.onnx import CPU
from emotion_runtime.cli import main
from emotion_runtime.doctor import FAIL, OK, WARN, Finding, inference, machine, media
from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt import cache as engines
from emotion_runtime.tensorrt import gpu as nvidia

AREAS = {
    "system",
    "gpu",
    "cuda",
    "tensorrt",
    "onnxruntime",
    "providers",
    "openvino",
    "opencv",
    "pyav",
    "gstreamer",
    "cameras",
    "display",
    "bundle",
    "engines",
    "backend",
    "detector",
}


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "engines"
    monkeypatch.setenv(engines.CACHE_VARIABLE, str(folder))
    return folder


def test_the_complete_report_in_a_new_process(tiny_bundle: Path, own_cache: Path):
    done = run("--doctor", "--json", "--bundle", tiny_bundle, "--backend", "cpu")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["schema"] == 1
    found = {finding["area"]: finding for finding in report["findings"]}
    assert set(found) - {"jetson"} == AREAS
    assert {finding["state"] for finding in report["findings"]} <= {OK, WARN}
    assert f"{CPU} starts" in found["providers"]["text"]
    assert "tiny (tiny): 4 files match their hashes" in found["bundle"]["text"]
    assert found["backend"]["text"].startswith("cpu: ONNX Runtime")
    assert found["detector"]["text"].startswith("face for frames of 640x480: ONNX Runtime")
    assert not own_cache.exists()  # the check creates nothing


def test_a_failure_is_status_2_with_its_fix_on_the_next_line(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    broken = shutil.copytree(tiny_bundle, tmp_path / "broken")
    (broken / "probe.safetensors").write_bytes(b"other")
    assert main(["--doctor", "--bundle", str(broken), "--backend", "cpu"]) == 2
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("FAIL  bundle")]
    assert "probe.safetensors has sha256" in line
    assert "copy or download the bundle again" in line
    assert main(["--doctor", "--bundle", str(tiny_bundle), "--backend", "cuda"]) == 2
    lines = capsys.readouterr().out.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("FAIL")]
    assert lines[at].split(maxsplit=2)[1:] == [
        "backend",
        "cuda: the installed ONNX Runtime was built without CUDA",
    ]
    assert lines[at + 1].strip().startswith("-> pip uninstall -y onnxruntime && pip install")


def test_json_is_only_for_the_doctor(capsys: pytest.CaptureFixture[str]):
    assert main(["--json", "--source", "demo"]) == 2
    assert "--json needs --doctor; to write events as JSON lines, use --jsonl PATH" in capsys.readouterr().err


def test_two_onnxruntimes_are_a_failure(tmp_path: Path):
    path = install(tmp_path, "onnxruntime 1.32.0", "onnxruntime-gpu 1.31.0", "onnxruntime-extensions 0.1")
    finding = only(inference.distributions(path))
    assert finding.state == FAIL
    assert finding.text.startswith("onnxruntime 1.32.0 and onnxruntime-gpu 1.31.0 are installed")
    assert finding.fix == "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"


@pytest.mark.parametrize(
    ("installed", "state"), [([], FAIL), (["onnxruntime 1.32.0"], OK), (["onnxruntime-gpu 1.23.2"], OK)]
)
def test_one_onnxruntime_is_correct(tmp_path: Path, installed: list[str], state: str):
    finding = only(inference.distributions(install(tmp_path, *installed)))
    assert finding.state == state
    assert finding.text == (installed[0] if installed else "ONNX Runtime is not installed")
    assert (finding.fix is None) == (state == OK)


def test_an_onnxruntime_that_the_environment_hides_is_correct(tmp_path: Path):
    """On a Jetson, an environment sees what the user has installed outside of it; pip cannot remove that."""
    own = install(tmp_path / "venv", "onnxruntime 1.23.2")
    outside = install(tmp_path / "user", "onnxruntime-gpu 1.23.0", "onnxruntime 1.20.0")
    assert only(inference.distributions([*own, *outside])) == Finding("onnxruntime", OK, "onnxruntime 1.23.2")
    assert only(inference.distributions([*outside, *own])).state == FAIL


def test_two_opencvs_are_reported(tmp_path: Path):
    path = install(tmp_path, "opencv-python 5.0.0.93", "opencv-python-headless 4.13.0.92")
    double, version = media.opencv(path)
    assert double.state == WARN
    assert double.fix == (
        "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python"
    )
    assert version.state == OK


@pytest.mark.parametrize(("built", "text"), [("  GUI:  NONE", "no windows"), ("  GUI:  QT5", "windows")])
def test_the_build_options_of_opencv(monkeypatch: pytest.MonkeyPatch, built: str, text: str):
    monkeypatch.setattr("cv2.getBuildInformation", lambda: f"General\n{built}\n")
    assert only(media.opencv()).text.endswith(f", {text}")


def test_a_package_that_cannot_be_loaded_is_a_finding(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    findings = doctor.run_checks(str(tiny_bundle), "cpu")
    (finding,) = [each for each in findings if each.area == "opencv"]
    assert finding.state == FAIL
    assert "cv2" in finding.text
    assert finding.fix is not None
    assert finding.fix == "pip install --force-reinstall opencv-python"


def test_gpus_and_their_driver(program: Any):
    program(
        "nvidia-smi", 'echo "NVIDIA RTX A2000, 560.35.03, 6138 MiB"; echo "Tesla T4, 560.35.03, 15360 MiB"'
    )
    first, second = machine.gpu()
    assert first == Finding("gpu", OK, "NVIDIA RTX A2000, 6138 MiB, driver 560.35.03")
    assert second.text.startswith("Tesla T4")


def test_a_driver_without_a_gpu(program: Any):
    program("nvidia-smi", "echo 'No devices were found'")
    assert only(machine.gpu()) == Finding("gpu", OK, "nvidia-smi: No devices were found")


def test_a_driver_that_does_not_respond(program: Any, monkeypatch: pytest.MonkeyPatch):
    program("nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    finding = only(machine.gpu())
    assert (finding.state, "version mismatch" in finding.text) == (WARN, True)
    assert finding.fix is not None
    assert finding.fix.startswith("sudo reboot")
    program("nvidia-smi", "exec sleep 20")
    monkeypatch.setattr(machine, "_SECONDS", 0.2)
    assert "did not respond within" in only(machine.gpu()).text


def test_no_gpu_is_not_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert only(machine.gpu()).state == OK


def test_a_tensorrt_that_does_not_load_is_reported(monkeypatch: pytest.MonkeyPatch):
    def broken(flavor: str) -> Any:
        raise EmotionError(f"{flavor} is installed and does not start (libnvinfer.so.10: cannot open)")

    monkeypatch.setattr(nvidia, "is_installed", lambda flavor: flavor == "tensorrt")
    monkeypatch.setattr(nvidia, "load_tensorrt", broken)
    first, second = inference.tensorrt()
    assert (first.state, second.state) == (WARN, OK)
    assert "libnvinfer.so.10" in first.text
    assert "tensorrt-rtx is not installed" in second.text


def test_corrupt_engines_are_reported_with_the_command_that_removes_them(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    own_cache = own_cache.with_name("my engines")
    monkeypatch.setenv(engines.CACHE_VARIABLE, str(own_cache))
    own_cache.mkdir()
    assert only(inference.engines()).text == f"0 valid in {own_cache}, 0 MB in total"
    (own_cache / "frame_encoder-0123456789abcdef.engine").write_bytes(bytes(3_000_000))
    (own_cache / "frame_encoder-0123456789abcdef.json").write_text("{}")
    corrupt, total = inference.engines()
    assert corrupt.state == WARN
    assert corrupt.fix == f"rm '{own_cache}/frame_encoder-0123456789abcdef.engine'"
    assert total.text == f"0 valid in {own_cache}, 3 MB in total"


def test_engines_in_a_folder_that_is_not_writable_are_used(own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    own_cache.mkdir()
    monkeypatch.setattr(inference.os, "access", lambda _, mode: not mode & os.W_OK)
    warning, total = inference.engines()
    assert warning.state == WARN
    assert "its engines are used, but new ones and parity checks are not kept" in warning.text
    assert total.text.startswith("0 valid in ")
    monkeypatch.setattr(inference.os, "access", lambda *_: False)
    assert "not readable" in only(inference.engines()).text


def test_cameras_and_their_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert only(media.cameras(tmp_path)).text.startswith("none found")
    for name in ("video0", "video2", "video10"):
        (tmp_path / name).touch()
    assert only(media.cameras(tmp_path)).text == ", ".join(
        str(tmp_path / name) for name in ("video0", "video2", "video10")
    )
    monkeypatch.setattr(media.os, "access", lambda path, _mode: path.name != "video2")
    closed, opened = media.cameras(tmp_path)
    assert (closed.state, closed.text) == (WARN, f"no permission for {tmp_path}/video2")
    assert closed.fix == "sudo usermod -aG video $USER, then log in again"
    assert "video2" not in opened.text


def test_cameras_have_names_and_a_sensor_says_how_to_open_it(tmp_path: Path):
    for name, text in (("video0", "C920"), ("video1", "vi-output, imx219 9-0010")):
        (tmp_path / name).touch()
        (tmp_path / "class" / name).mkdir(parents=True)
        (tmp_path / "class" / name / "name").write_text(f"{text}\n")
    assert only(media.cameras(tmp_path, tmp_path / "class")).text == (
        f"{tmp_path}/video0 (C920), {tmp_path}/video1 (vi-output, imx219 9-0010), which opens with "
        "--source csi://0"
    )


def test_the_worst_state_of_all_findings():
    findings = [Finding("a", state, "") for state in (OK, WARN, OK)]
    assert doctor.worst_state(findings) == WARN
    assert doctor.worst_state([*findings, Finding("b", FAIL, "")]) == FAIL
