"""What is in the wheel: three packages, the nano bundle, the training configurations, and the commands."""

import configparser
import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


WITHOUT_THE_EXTRA = """
import sys

sys.path.insert(0, sys.argv[1])
from emotion_export.cli import EXTRA, __file__
assert __file__.startswith(sys.argv[1])

class Block:
    def find_spec(self, name, path=None, target=None):
        if name in EXTRA:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built by the real backend, from the sources that git knows."""
    out = tmp_path_factory.mktemp("wheel")
    # Without isolation: the build backend is part of the dev extra, and the network is not part of a test.
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_three_packages_and_metadata(wheel: zipfile.ZipFile):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    packages = {top for top in tops if not top.endswith(".dist-info")}
    assert packages == {"emotion_runtime", "emotion_train", "emotion_export"}
    assert len(tops) == 4


def test_every_source_and_the_bundle_travel(wheel: zipfile.ZipFile):
    for root in ("runtime/emotion_runtime", "train/emotion_train", "export/emotion_export"):
        folder = ROOT / root
        expected = {
            f"{folder.name}/{file.relative_to(folder)}"
            for file in folder.rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        }
        assert expected <= set(wheel.namelist())
    assert "emotion_runtime/bundles/nano/bundle.json" in wheel.namelist()
    assert "emotion_runtime/bundles/nano/MODEL_CARD.md" in wheel.namelist()


def test_the_training_configurations_travel(wheel: zipfile.ZipFile):
    expected = {f"emotion_train/configs/{file.name}" for file in (ROOT / "train" / "configs").glob("*.toml")}
    assert expected
    assert expected <= set(wheel.namelist())


def test_the_commands_exist(wheel: zipfile.ZipFile):
    (name,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    entries = configparser.ConfigParser()
    entries.read_string(wheel.read(name).decode())
    assert set(entries["console_scripts"]) >= {
        "emotion-runtime",
        "emotion-report",
        "emotion-train",
        "emotion-export",
    }
    for target in entries["console_scripts"].values():
        module, function = target.split(":")
        source = wheel.read(f"{module.replace('.', '/')}.py").decode()
        assert f"\ndef {function}(" in source


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("train", "pretrain"),
        ("train", "prepare-data"),
        ("train", "evaluate"),
        ("train", "figures"),
        ("export", "onnx"),
    ],
)
def test_without_the_extra_a_command_says_so_in_one_line(
    extra: str, command: str, wheel: zipfile.ZipFile, tmp_path: Path
):
    """In an interpreter that sees the unpacked wheel, and finds no package of the extra.

    `prepare-faces` needs none, and `fit-probe` only those that the given options need.
    """
    wheel.extractall(tmp_path)
    run = f"{WITHOUT_THE_EXTRA}\nfrom emotion_{extra}.cli import main\nsys.exit(main([{command!r}]))\n"
    done = subprocess.run(
        [sys.executable, "-c", run, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"emotion-{extra} {command}: error: the package ")
    assert line.endswith(f"it comes with the extra `{extra}`: run pip install '.[{extra}]' in a checkout")


def test_no_bytecode_no_data(wheel: zipfile.ZipFile):
    names = [Path(name) for name in wheel.namelist() if ".dist-info/" not in name]
    page = Path("emotion_runtime/web/static")
    assert {name.suffix for name in names if name.parent == page} == {".html", ".css", ".js", ".svg"}
    suffixes = {name.suffix for name in names if name.parent != page}
    assert suffixes <= {".py", ".typed", ".toml", ".json", ".onnx", ".safetensors", ".md", ".png", ".txt"}


def test_a_package_index_would_accept_the_metadata(wheel: zipfile.ZipFile):
    command = [sys.executable, "-m", "twine", "check", "--strict", str(wheel.filename)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_links_of_the_readme_work_outside_of_the_repository(wheel: zipfile.ZipFile):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(wheel.read(name))
    readme = metadata.get_payload(decode=True).decode()
    here = f"emotion-runtime/emotion-runtime/blob/v{metadata['Version']}/ARCHITECTURE.md)"
    assert f"](https://github.com/{here}" in readme
    targets = re.findall(r"""\]\(([^)]+)|(?:src|href)="([^"]+)""", readme)
    assert len(targets) > 10
    relative = [one or other for one, other in targets if not (one or other).startswith(("https://", "#"))]
    assert not relative
