"""The doctor on a Jetson: its state, and no advice that would break a working installation."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from doctor_installs import install

from emotion_runtime import jetson
from emotion_runtime.backends import onnx
from emotion_runtime.backends.cuda import open_cuda
from emotion_runtime.doctor import OK, WARN, Finding, inference, machine, media
from emotion_runtime.errors import EmotionError
from emotion_runtime.sources import gstreamer


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


@pytest.mark.parametrize("is_jetson", [False, True])
def test_gstreamer_is_needed_on_a_jetson(is_jetson: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    release = tmp_path / "nv_tegra_release"
    if is_jetson:
        release.touch()
    monkeypatch.setattr(gstreamer, "find_gstreamer", lambda _: ("GStreamer 1.20.3", True))
    assert only(media.gstreamer(release)) == Finding("gstreamer", OK, "GStreamer 1.20.3")
    monkeypatch.setattr(gstreamer, "find_gstreamer", lambda _: ("GStreamer 1.20.3", False))
    finding = only(media.gstreamer(release))
    assert finding.state == (WARN if is_jetson else OK)
    assert finding.fix == ("sudo apt install nvidia-l4t-gstreamer" if is_jetson else None)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "gi", None)
    finding = only(media.gstreamer(release))
    assert finding.state == (WARN if is_jetson else OK)
    assert finding.text == "GStreamer's Python bindings are not installed, which csi:// and gst: sources need"
    assert ("sudo apt install python3-gi" in (finding.fix or "")) == is_jetson


@pytest.mark.parametrize(
    ("release", "state", "text"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic", OK, "JetPack 6.1 or 6.2"),
        ("# R36 (release), REVISION: 3.0, GCID: 36191598", OK, "JetPack 6.0 (Jetson Linux 36.3)"),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178", WARN, "JetPack 5 (Jetson Linux 35.4)"),
        ("# R99 (release), REVISION: 1.0", OK, "an unrecognised JetPack version"),
        ("something else", WARN, "has no readable version"),
    ],
)
def test_the_jetpack_of_a_jetson(tmp_path: Path, release: str, state: str, text: str):
    path = tmp_path / "nv_tegra_release"
    path.write_text(release)
    finding, _ = machine.jetson(path)
    assert finding.state == state
    assert text in finding.text
    assert (finding.fix is None) == (state == OK)


def test_other_machines_have_no_jetpack(tmp_path: Path):
    assert list(machine.jetson(tmp_path / "none")) == []


@pytest.fixture
def on_a_jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend that this is a Jetson with JetPack 6.2; return the file that says so."""
    release = tmp_path / "nv_tegra_release"
    release.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic")
    monkeypatch.setattr(jetson, "RELEASE", release)
    return release


def test_memory_power_mode_and_throttling_of_a_jetson(on_a_jetson: Path, tmp_path: Path, program: Any):
    memory, sensors = tmp_path / "meminfo", tmp_path / "hwmon"
    memory.write_text("MemTotal:        7806092 kB\nMemFree: 1 kB\nMemAvailable:    5242880 kB\n")
    counts = [sensors / "hwmon1" / f"oc{i}_event_cnt" for i in (1, 2)]
    for count in counts:
        count.parent.mkdir(parents=True, exist_ok=True)
        count.write_text("0\n")
    program("nvpmodel", "echo 'NV Power Mode: MAXN_SUPER'; echo 2")
    _, state = machine.jetson(on_a_jetson, memory, sensors)
    assert state.text == "7.4 GiB of memory, 5.0 available, power mode MAXN_SUPER"
    counts[1].write_text("17\n")
    program("nvpmodel", "exit 1")
    _, state, slow = machine.jetson(on_a_jetson, memory, sensors)
    assert state.text.endswith("power mode unknown")
    assert slow.state == WARN
    assert "slowed down" in slow.text


@pytest.mark.usefixtures("on_a_jetson")
def test_no_advice_breaks_a_working_jetson(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """There is no onnxruntime-gpu that runs there, and another OpenCV does not fit this NumPy."""
    program("nvidia-smi", "echo 'Orin (nvgpu), 540.4.0, [N/A]'")
    double = install(tmp_path, "onnxruntime 1.23.2", "onnxruntime-gpu 1.23.2")
    findings = [
        *inference.providers(),
        *inference.distributions(double),
        *inference.distributions(install(tmp_path / "none")),
        *inference.tensorrt(),
        *machine.cuda(),
        *media.opencv(),
    ]
    monkeypatch.setattr(onnx, "available_providers", lambda: [onnx.CUDA])
    monkeypatch.setattr(inference, "provider_error", lambda _: "no kernel image is available")
    findings += inference.providers()
    fixes = [finding.fix for finding in findings if finding.fix]
    assert len(fixes) >= 3
    for fix in fixes:
        assert "pip install onnxruntime-gpu" not in fix
        assert "onnxruntime-gpu)" not in fix
        assert "python3-opencv" not in fix
    assert [finding.state for finding in findings if finding.area == "cuda"] == [WARN]
    with pytest.raises(EmotionError, match="PyPI has no ONNX Runtime with CUDA for a Jetson") as error:
        open_cuda(tmp_path / "graph.onnx")
    assert "onnxruntime-gpu" not in str(error.value)
