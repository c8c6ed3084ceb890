"""Python blocks of the pages that read the files of a run, on the files of a run."""

import re
from pathlib import Path

import pytest

from emotion_runtime.cli import main

DOCS = Path(__file__).resolve().parents[2] / "docs"
MARKED = re.compile(r"<!-- python: after a run -->\n```python\n(.*?)```", re.DOTALL)
BLOCKS = [
    (page, block) for page in ("files.md", "jsonl.md") for block in MARKED.findall((DOCS / page).read_text())
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Path:
    folder = tmp_path_factory.mktemp("run")
    options = ["--bundle", str(tiny_bundle), "--backend", "cpu", "--max-frames", "16"]
    files = {"--jsonl": "demo.jsonl", "--csv": "people.csv", "--embeddings": "people.npz"}
    outputs = [word for option, name in files.items() for word in (option, str(folder / name))]
    assert main(["--source", "demo", *options, *outputs]) == 0
    return folder


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[f"{page}-{i}" for i, (page, _) in enumerate(BLOCKS)])
def test_block_runs(
    folder: Path, page: str, block: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    exec(block, {})  # noqa: S102 - the page of this repository
    printed = capsys.readouterr().out
    assert "p_anger" in printed if page == "files.md" else printed


def test_both_pages_have_blocks() -> None:
    assert {page for page, _ in BLOCKS} == {"files.md", "jsonl.md"}
