"""The programs in examples/ run as printed there, and are short."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import av
import cv2
import pytest

from emotion_runtime import open_source

FOLDER = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = sorted(FOLDER.glob("*.py"))


def run(name: str, *arguments: str | Path, folder: Path) -> str:
    command = [sys.executable, str(FOLDER / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_every_program_is_short_tested_and_linked():
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    tests = Path(__file__).read_text(encoding="utf-8")
    assert len(PROGRAMS) == 5
    for program in PROGRAMS:
        assert len(program.read_text(encoding="utf-8").splitlines()) < 40
        assert f'run("{program.name}"' in tests
        assert f"(examples/{program.name})" in readme


@pytest.mark.slow
def test_count_smiles(tmp_path: Path):
    printed = run("count_smiles.py", "demo", "60", folder=tmp_path)
    assert "person 1 starts to smile" in printed
    assert printed.splitlines()[-1] == "1 smiles of 2 people"


@pytest.mark.slow
def test_emotions_to_csv(tmp_path: Path):
    printed = run("emotions_to_csv.py", "demo", "out.csv", "30", folder=tmp_path)
    assert "demo: person 2 was seen for" in printed
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    last = [row for row in rows if float(row["t"]) == pytest.approx(29 / 25)]
    assert [row["id"] for row in last] == ["1", "2"]
    assert float(last[0]["p_happiness"]) == pytest.approx(float(last[0]["confidence"]))
    assert last[0]["top"] == "happiness"


@pytest.mark.slow
def test_own_overlay(tmp_path: Path):
    run("own_overlay.py", "demo", "out.mp4", "30", folder=tmp_path)
    with av.open(str(tmp_path / "out.mp4")) as container:
        *_, image = (frame.to_ndarray(format="bgr24") for frame in container.decode(video=0))
    color = image[2, 20].astype(int).tolist()
    assert color == pytest.approx([48, 192, 250], abs=40)  # the bar of the mood begins at the left


@pytest.mark.slow
def test_newest_event(tmp_path: Path):
    lines = run("newest_event.py", "demo", "6", folder=tmp_path).splitlines()
    times = [float(re.match(r" *([\d.]+) s", line)[1]) for line in lines]
    assert times == sorted(times)
    assert any("1: happiness" in line for line in lines)


@pytest.mark.slow
def test_photos(tmp_path: Path):
    with open_source("demo") as source:
        cv2.imwrite(str(tmp_path / "two.png"), next(iter(source)).image)
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    lines = run("photos.py", tmp_path, folder=tmp_path).splitlines()
    assert "broken.jpg" in lines[0]
    assert lines[1] == "two.png: 2 people"
    assert re.search(r"happiness \d+%$", lines[2])
