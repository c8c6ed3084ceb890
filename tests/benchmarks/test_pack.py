"""Packages and data reach a machine in parts, in any order, whole or not at all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gpu import pack

SCRIPT = Path(pack.__file__)


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (data / "deep/empty").touch()
    noise = bytes(range(256)) * 1024
    (data / "noise.bin").write_bytes(noise)
    options = ["--name", "part", "--out", str(tmp_path / "parts"), "--mib", "0.1", "--compress", "none"]
    added = [f"{data}=there/data", f"{data / 'noise.bin'}=a.bin"]
    assert pack.main(["pack", *options, "--add", *added]) == 0
    return sorted((tmp_path / "parts").iterdir(), key=lambda part: int(part.name.removeprefix("part")))


def test_what_is_packed_arrives_in_any_order(parts: list[Path], tmp_path: Path):
    assert len(parts) == 7
    for part in parts:
        assert sum(path.stat().st_size for path in part.iterdir()) <= 0.1 * 2**20
    into = tmp_path / "into"
    for part in reversed(parts):
        assert not (into / "a.bin").exists()
        # As it runs there: a Python without this project.
        command = [sys.executable, "-I", str(SCRIPT), "unpack", str(part), "--into", str(into)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"part: extracted into {into}\n"
    assert (into / "a.bin").read_bytes() == (into / "there/data/noise.bin").read_bytes()
    assert (into / "a.bin").read_bytes() == bytes(range(256)) * 1024
    assert (into / "there/data/deep/empty").is_file()
    assert pack.unpack(parts[0], into) == "part: extracted before"


def test_missing_pieces_are_named(parts: list[Path], tmp_path: Path):
    said = pack.unpack(parts[0], tmp_path / "into")
    assert said.startswith("part: 6 of 7 pieces are missing: part.002, ")
    assert list((tmp_path / "into").iterdir()) == [tmp_path / "into/.pieces"]


def test_a_damaged_part_is_refused(parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    piece = parts[1] / "part.002"
    content = bytearray(piece.read_bytes())
    content[100] ^= 1
    piece.write_bytes(content)
    into = tmp_path / "into"
    assert pack.main(["unpack", *map(str, parts), "--into", str(into)]) == 2
    assert f"pack: error: {piece} is damaged" in capsys.readouterr().err
    assert not (into / "a.bin").exists()


def test_packing_again_leaves_no_part_of_before(parts: list[Path], tmp_path: Path):
    small = tmp_path / "small"
    small.write_text("x")
    out = parts[0].parent
    (out / "particular").mkdir()
    assert pack.main(["pack", "--name", "part", "--out", str(out), "--add", f"{small}=small"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["part1", "particular"]
    (piece,) = json.loads((out / "part1" / pack.LIST).read_text())["pieces"]
    assert piece["name"] == "part.001"


@pytest.mark.parametrize("add", [["nobody=x"], ["x"], []])
def test_nothing_to_pack_is_one_line(add: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert pack.main(["pack", "--name", "x", "--out", str(tmp_path), "--add", *add]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pack: error: ")


def test_a_folder_that_is_no_part_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert pack.main(["unpack", str(tmp_path), "--into", str(tmp_path / "into")]) == 2
    assert "expected a folder that `pack` wrote" in capsys.readouterr().err
