"""The machine's card and the files of a result."""

import json
import sys
import time
from pathlib import Path

import pytest

from emotion_bench.machine import card, cpu_name, folder_name
from emotion_bench.networks import network_time
from emotion_bench.report import write_json
from emotion_runtime.backends.onnx import usable_cores
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.tensorrt.engine import TensorRTBackend
from emotion_train.tables import markdown_table


@pytest.mark.parametrize(
    ("name", "cores", "folder"),
    [
        ("AMD EPYC", 2, "amd-epyc-2-cores"),
        ("Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz", 8, "intel-core-i7-8550u-8-cores"),
        ("NVIDIA H100 80GB HBM3, 560.35, 81559 MiB", None, "h100-80gb-hbm3"),
        ("Orin (nvgpu)", None, "orin-nvgpu"),
    ],
)
def test_results_lie_in_a_folder_named_after_the_machine(name: str, cores: int | None, folder: str):
    assert folder_name(name, cores) == folder


def test_the_card_states_machine_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel name\t: Some CPU: fast\n")
    assert cpu_name(listing) == "Some CPU: fast"
    monkeypatch.setenv("PATH", "")  # no nvidia-smi
    found = card(["numpy", "no-such-package"])
    assert found["gpu"] is None
    assert found["no-such-package"] is None
    assert found["numpy"] == sys.modules["numpy"].__version__
    assert found["cores"] == usable_cores() >= 1


def test_tables_are_markdown():
    text = markdown_table(["name", "ms"], [["a", "1.0"], ["longer", "22.0"]])
    assert text.splitlines() == [
        "| name   | ms   |",
        "|--------|------|",
        "| a      | 1.0  |",
        "| longer | 22.0 |",
    ]


def test_results_are_written_atomically(tmp_path: Path):
    path = tmp_path / "machine" / "result.json"
    write_json(path, {"ms": 1.5})
    with pytest.raises(TypeError):
        write_json(path, {"ms": object()})
    assert json.loads(path.read_text()) == {"ms": 1.5}
    assert list(path.parent.iterdir()) == [path]


def test_time_in_networks_is_part_of_the_time():
    runtime = EmotionRuntime(backend="cpu")
    timer = runtime.timer
    with network_time() as watch:
        for _, _ in zip(runtime.stream("demo"), range(6), strict=False):
            pass
    networks = timer.seconds["detect"] + timer.seconds["encode"] + timer.seconds["temporal"]
    # All networks run within these stages, which do a little more than that.
    assert 0 < watch.seconds < networks
    before = watch.seconds
    next(runtime.stream("demo"))
    assert watch.seconds == before  # afterwards nothing is counted any more


def test_native_tensorrt_engines_are_networks_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(TensorRTBackend, "run", lambda _, feeds: time.sleep(0.01) or feeds)
    with network_time() as watch:
        assert object.__new__(TensorRTBackend).run({}) == {}
    assert 0.01 <= watch.seconds < 1
