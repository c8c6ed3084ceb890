"""Commands and Python blocks of the documentation fit this version of the code. (`nox -s docs` builds it.)"""

import argparse
import ast
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from emotion_export.cli import COMMANDS as EXPORT_COMMANDS
from emotion_runtime import options
from emotion_runtime.bundle import load_bundle
from emotion_runtime.errors import EmotionError
from emotion_train.cli import COMMANDS as TRAIN_COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Programs and scripts whose command lines are checked, with the modules whose `parser()` they use.
PARSERS = {
    **{
        f"emotion-train {name}": f"emotion_train.commands.{name.replace('-', '_')}" for name in TRAIN_COMMANDS
    },
    **{f"emotion-export {name}": f"emotion_export.commands.{name}" for name in EXPORT_COMMANDS},
    "train/pretrain.py": "emotion_train.commands.pretrain",
}
RUN = ("python: run", "ci: python")  # markers of Python blocks that are run


class Block(NamedTuple):
    """A fenced code block: page and line where it starts, its language, and the marker comment above it."""

    page: Path
    line: int
    language: str
    marker: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(
        r"(?:^<!-- ([^\n]+) -->\n)?^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    ):
        line = text.count("\n", 0, match.start(2)) + 1
        yield Block(page, line, match[2], match[1] or "", match[3])


BLOCKS = [block for page in PAGES for block in blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def command_lines(shell: str) -> Iterator[list[str]]:
    """Yield the words of every command of ours in a block of shell commands."""
    for line in shell.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word in ("&&", "|", ";", "<<PY"):
                yield from our_command(words)
                words = []
            else:
                words.append(word)


def our_command(words: list[str]) -> Iterator[list[str]]:
    """Yield program and arguments if the command runs a program of this project."""
    for start, word in enumerate(words):
        program = Path(word).name
        if program == "emotion-runtime":
            yield [program, *words[start + 1 :]]
        elif program in ("emotion-train", "emotion-export"):
            yield [f"{program} {words[start + 1]}", *words[start + 2 :]]
        elif word in PARSERS:
            yield [word, *words[start + 1 :]]
        else:
            continue
        return


COMMANDS = [
    pytest.param(command, id=f"{block}-{number}")
    for block in BLOCKS
    if block.language == "bash"
    for number, command in enumerate(command_lines(block.text))
]


def parse(program: str, arguments: list[str]) -> argparse.Namespace:
    if program == "emotion-runtime":
        parser = options.parser()
    else:
        parser = importlib.import_module(PARSERS[program]).parser()
    return parser.parse_args(arguments)


def test_pages_have_commands_of_every_program():
    named = {param.values[0][0] for param in COMMANDS}
    assert len(COMMANDS) > 20
    assert named == {"emotion-runtime", *PARSERS}


# Words of an older way of writing, which readers stumbled over.
AVOIDED = re.compile(
    r"\b(is to be had|has not got|vouch\w*|sits? the exam|mends|torn|rungs?|moonshots?|"
    r"what was asked for|nobody's business)\b"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_are_in_plain_words(page: Path):
    assert not AVOIDED.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_accepted_by_the_parser(command: list[str]):
    program, *arguments = command
    try:
        parsed = vars(parse(program, arguments))
        if program in ("emotion-runtime", "emotion-export trt") and parsed.get("bundle", "nano") == "nano":
            precision = parsed.get("precision") or "fp32"
            load_bundle("nano").graph_path("frame_encoder", "fp32" if precision == "ladder" else precision)
    except (SystemExit, EmotionError) as error:
        pytest.fail(f"{' '.join(command)}: {error}")


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_blocks_import_names_that_exist(block: Block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{block}: {node.module} has no {', '.join(missing)}"


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in PYTHON if block.marker in RUN], ids=str)
def test_marked_python_blocks_print_what_the_page_shows(block: Block, tmp_path: Path):
    command = [sys.executable, "-c", block.text]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    following = next((other for other in blocks(block.page) if other.line > block.line), None)
    if following is not None and following.language == "text":
        assert blurred(run.stdout).endswith(blurred(following.text))


def blurred(text: str) -> str:
    """Hide the last digit of percentages, which differs between processors."""
    return re.sub(r"\d%", "?%", text)


def test_the_tests_that_the_table_of_faults_names_exist():
    named = re.findall(
        r"`([\w/]+\.py)::(test_\w+)`", (ROOT / "docs" / "streams.md").read_text(encoding="utf-8")
    )
    assert len(named) >= 30
    sources = {file: (ROOT / "tests" / "runtime" / file).read_text(encoding="utf-8") for file, _ in named}
    assert not [f"{file}::{name}" for file, name in named if f"def {name}(" not in sources[file]]


@pytest.mark.parametrize(
    ("program", "commands"), [("emotion-train", TRAIN_COMMANDS), ("emotion-export", EXPORT_COMMANDS)]
)
def test_the_page_on_the_architecture_lists_all_commands(program: str, commands: dict[str, str]):
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    listed = re.search(rf"\| `{program} (.+?); the scripts", text)
    assert listed is not None
    assert listed[1].replace("`", "").split(", ") == list(commands)
