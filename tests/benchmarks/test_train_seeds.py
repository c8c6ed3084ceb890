"""The script that trains nano with several seeds, run with a stand-in for Python that records its calls."""

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu" / "train_nano.sh"
STAND_IN = """#!/usr/bin/env bash
echo "$*" >> "$CALLS"
while [ $# -gt 0 ]; do [ "$1" != --out ] || out=$2; shift; done
case "$out" in
    *.npz) echo x > "$out" ;;
    *seed-2) exit 3 ;;
    *) mkdir -p "$out"; echo x > "$out/checkpoint.pt" ;;
esac
"""


def run(tmp_path: Path, *seeds: str) -> subprocess.CompletedProcess[str]:
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(python), "CALLS": str(tmp_path / "calls")}
    command = ["bash", str(SCRIPT), str(tmp_path), str(tmp_path / "runs"), *seeds]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_every_seed_is_trained_and_measured_with_the_same_predictions(tmp_path: Path):
    done = run(tmp_path, "0", "7")
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert sum("predict-votes" in call for call in calls) == 1
    assert sum("pretrain.py" in call and "--predictions" in call for call in calls) == 2
    assert sum("bench_conditions.py" in call for call in calls) == 2
    assert "\nseed = 7\n" in (tmp_path / "runs" / "seed-7.toml").read_text()
    assert not any("--resume" in call for call in calls)
    run(tmp_path, "0")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert sum("predict-votes" in call for call in calls) == 1
    assert sum("--resume" in call for call in calls) == 1


def test_a_seed_that_fails_is_named_and_the_others_go_on(tmp_path: Path):
    done = run(tmp_path, "1", "2")
    assert done.returncode == 1
    assert "seed 2 failed" in done.stderr
    assert "seed 1:" in done.stdout
    assert run(tmp_path).returncode == 2
