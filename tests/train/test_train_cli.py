"""The command `emotion-train` and the scripts of train/, which call the same commands."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from emotion_runtime import console
from emotion_train import cli
from emotion_train.training.config_files import find_config, shipped_configs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)


def test_help_lists_the_commands_without_importing_torch():
    code = "import sys; from emotion_train.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    done = run("-c", f"{code}assert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr
    for name in cli.COMMANDS:
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["pretrain", "prepare_data", "fit_probe", "evaluate", "figures"])
def test_every_script_is_its_command(name: str, monkeypatch: pytest.MonkeyPatch):
    called = []
    monkeypatch.setattr(cli, "main", lambda argv: called.append(argv) or 0)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--out", "x"])
    source = (ROOT / "train" / f"{name}.py").read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        exec(compile(source, name, "exec"), {"__name__": "__main__"})  # noqa: S102 - our own script
    assert end.value.code == 0
    assert called == [[name.replace("_", "-"), "--out", "x"]]
    assert called[0][0] in cli.COMMANDS


@pytest.mark.slow
def test_a_script_run_by_its_path():
    done = run(str(ROOT / "train" / "fit_probe.py"), "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: emotion-train fit-probe ")


@pytest.mark.parametrize("argv", [["train"], [], ["--colour"]])
def test_a_wrong_command_is_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]):
    assert cli.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("emotion-train: error: ")
    assert line.endswith("; see emotion-train --help")


# --- a package that is missing


def missing(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: list[str]) -> int:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(console, "import_module", lambda _: SimpleNamespace(main=fail))


@pytest.mark.parametrize(("module", "package"), [("torch", "torch"), ("sklearn.svm", "scikit-learn")])
def test_a_missing_package_of_the_extra_is_named(
    module: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    missing(module, monkeypatch)
    assert cli.main(["fit-probe"]) == 2
    assert capsys.readouterr().err == (
        f"emotion-train fit-probe: error: the package {package} is not installed; it comes with the extra "
        "`train`: run pip install '.[train]' in a checkout\n"
    )


@pytest.mark.parametrize("module", ["emotion_train.nothing", "numpy_typo"])
def test_other_missing_modules_are_bugs(module: str, monkeypatch: pytest.MonkeyPatch):
    missing(module, monkeypatch)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["fit-probe"])


def test_the_packages_of_the_extra_are_those_that_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.match(r"[^<>=;\s]+", line)[0] for line in project["optional-dependencies"]["train"]}
    assert set(cli.EXTRA.values()) == declared


# --- configurations


def test_a_configuration_is_a_name_or_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert set(shipped_configs()) == {file.stem for file in (ROOT / "train" / "configs").glob("*.toml")}
    assert find_config("nano").samefile(ROOT / "train" / "configs" / "nano.toml")
    assert find_config("train/configs/nano.toml") == Path("train/configs/nano.toml")
    monkeypatch.chdir(tmp_path)
    Path("nano").touch()
    assert find_config("nano") == Path("nano")  # a file wins
