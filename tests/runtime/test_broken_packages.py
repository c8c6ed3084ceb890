"""A package that cannot be loaded is named with the command that fixes it; a bug keeps its traceback."""

import importlib
import os
import sys
from pathlib import Path

import pytest
from command_runs import run

from emotion_runtime import console, doctor, installed
from emotion_runtime.broken_packages import broken_module, fix_for
from emotion_runtime.doctor import FAIL, OK, WARN, machine

NO_GL = "libGL.so.1: cannot open shared object file: No such file or directory"


def load(module: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ImportError:
    """Return the error of a package whose import fails with a message."""
    (folder / module).mkdir()
    (folder / module / "__init__.py").write_text(f"raise ImportError({message!r})\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ImportError) as error:
        importlib.import_module(module)
    return error.value


@pytest.mark.parametrize(
    ("module", "message", "fix"),
    [
        ("cv2", NO_GL, "sudo apt install libgl1 libglib2.0-0"),
        ("cv2", "numpy.core.multiarray failed to import", "pip install --force-reinstall opencv-python"),
        ("av", "libavcodec.so.60: cannot open", "pip install --force-reinstall av"),
        ("onnxruntime", "GLIBCXX_3.4.32 not found", "pip install --force-reinstall onnxruntime-gpu"),
    ],
)
def test_the_package_that_is_installed_is_installed_again(
    module: str, message: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    packages = {"opencv": {"opencv-python": "4.13"}, "onnxruntime": {"onnxruntime-gpu": "1.23.2"}}
    monkeypatch.setattr(installed, "installed", lambda family: packages[family])
    error = load(module, message, tmp_path, monkeypatch)
    assert (broken_module(error), fix_for(error)) == (module, fix)


def test_what_is_left_of_a_removed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One of two packages that own the module `cv2` was removed: a folder without its files."""
    (tmp_path / "cv2").mkdir()
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [str(tmp_path)])
        cv2 = importlib.import_module("cv2")

    def check() -> None:
        cv2.getBuildInformation()

    with pytest.raises(AttributeError) as error:
        check()
    assert broken_module(error.value) == "cv2"
    with pytest.raises(AttributeError) as of_a_bug:
        _ = sys.modules["pytest"].no_such_name
    assert broken_module(of_a_bug.value) is None
    monkeypatch.setattr(machine, "gpu", check)
    (finding,) = [each for each in doctor.run_checks("none", "cpu") if each.area == "gpu"]
    assert finding.state == FAIL
    assert (finding.fix or "").startswith("pip install --force-reinstall opencv")


def test_a_missing_file_is_no_missing_package():
    with pytest.raises(OSError, match="none") as error:
        Path("/none/at/all").read_bytes()
    assert (broken_module(error.value), fix_for(error.value)) == (None, None)


def test_a_run_without_a_library_of_the_system_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    load("cv2", NO_GL, tmp_path, monkeypatch)
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{before}")
    done = run("--source", "demo", "--no-show", "--max-frames", "1")
    assert done.returncode == 2
    assert done.stderr == (
        f"emotion-runtime: error: the package cv2 cannot be loaded ({NO_GL}): sudo apt install libgl1 "
        "libglib2.0-0\n"
    )


def test_a_module_of_our_own_that_is_missing_is_a_bug():
    def command() -> int:
        raise ImportError("cannot import name 'x'", name="emotion_runtime.types")

    with pytest.raises(ImportError):
        console.run("emotion-runtime", command)


def test_the_doctor_never_installs_packages_for_what_the_system_forbids(monkeypatch: pytest.MonkeyPatch):
    def forbidden() -> None:
        raise PermissionError(13, "Permission denied", "/sys/class/hwmon/hwmon1/oc1_event_cnt")

    monkeypatch.setattr(machine, "jetson", forbidden)
    (finding,) = [each for each in doctor.run_checks("none", "cpu") if each.area == "jetson"]
    assert (finding.state, finding.fix) == (WARN, None)
    assert "oc1_event_cnt" in finding.text


def test_a_fix_is_for_the_package_that_is_broken(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "av", None)
    found = {each.area: each for each in doctor.run_checks(str(tiny_bundle), "cpu")}
    assert found["pyav"].state == FAIL
    assert {each.fix for each in found.values() if each.state == FAIL} == {"pip install --force-reinstall av"}
    assert found["providers"].state == OK


def test_a_package_that_nothing_depends_on_is_never_proposed():
    """A misspelt import is a bug; a name that anybody may register must not be installed."""
    error = ModuleNotFoundError("No module named 'numpy_typo'", name="numpy_typo")
    assert broken_module(error) is None
    assert fix_for(error) is None
    assert broken_module(ModuleNotFoundError("No module named 'cv2'", name="cv2")) == "cv2"
    assert fix_for(ModuleNotFoundError("No module named 'numpy'", name="numpy.linalg")) is not None
