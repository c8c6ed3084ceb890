"""The command `emotion-export` and the scripts of export/, which call the same commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_export import cli

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]

# An interpreter in which no package of the extra can be imported.
LEAN = """
import sys
from emotion_export.cli import EXTRA, main

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRA:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
sys.exit(main(sys.argv[1:]))
"""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)


def test_help_lists_the_commands():
    done = run("-m", "emotion_export.cli", "--help")
    assert done.returncode == 0, done.stderr
    for name in cli.COMMANDS:
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["onnx", "trt", "triton"])
def test_every_script_is_its_command(name: str, monkeypatch: pytest.MonkeyPatch):
    called = []
    monkeypatch.setattr(cli, "main", lambda argv: called.append(argv) or 0)
    monkeypatch.setattr(sys, "argv", [f"to_{name}.py", "--out", "x"])
    source = (ROOT / "export" / f"to_{name}.py").read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        exec(compile(source, name, "exec"), {"__name__": "__main__"})  # noqa: S102 - our own script
    assert end.value.code == 0
    assert called == [[name, "--out", "x"]]
    assert name in cli.COMMANDS


@pytest.mark.parametrize("name", ["trt", "triton"])
def test_a_script_run_by_its_path(name: str):
    done = run(ROOT / "export" / f"to_{name}.py", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: emotion-export {name} ")


def test_engines_and_repositories_need_no_torch(tmp_path: Path):
    """A Jetson has the lean environment and its own TensorRT."""
    done = run("-c", LEAN, "triton", "--bundle", "nano", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "nano_frame_encoder" / "config.pbtxt").is_file()
    done = run("-c", LEAN, "trt", "--bundle", "nano", "--target", "SM86", "--flavor", "tensorrt")
    assert done.returncode == 2
    assert "only on the GPU that will run it" in done.stderr


def test_onnx_without_the_extra_names_it_in_one_line():
    done = run("-c", LEAN, "onnx", "--bundle", "nano", "--out", "x")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("emotion-export onnx: error: the package ")
    assert line.endswith("it comes with the extra `export`: run pip install '.[export]' in a checkout")


@pytest.mark.parametrize("argv", [["to_onnx"], [], ["--colour"], ["trt", "--colour"], ["triton"]])
def test_a_wrong_command_line_is_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]):
    assert cli.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    program = (
        " ".join(["emotion-export", *argv[:1]]) if argv[:1] in (["trt"], ["triton"]) else "emotion-export"
    )
    assert line.startswith(f"{program}: error: ")
    assert line.endswith(f"; see {program} --help")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("emotion_export.commands.triton.load_bundle", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["triton", "--bundle", "nano", "--out", "x"])


def test_the_packages_of_the_extra_are_declared():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    declared = {re.match(r"[^<>=;\s]+", line)[0] for line in (*extras["train"], *extras["export"])}
    assert set(cli.EXTRA.values()) == declared - {"emotion-runtime[train]"}
