"""A small collection of videos with captions, and a finished run over it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from command import Command
from made_media import ONE, TWO, flat_pictures, write_json3, write_sentences, write_srt, write_video

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def prepare_data() -> Command:
    """The command."""
    return Command("prepare-data")


@pytest.fixture(scope="session")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentences(tmp_path_factory.mktemp("goemotions") / "train")


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """videos/ and captions/: one whole pair in .srt, one in .json3 in a folder below, and what goes wrong."""
    root = tmp_path_factory.mktemp("media")
    videos, captions = root / "videos", root / "captions"
    write_video(videos / "one.mkv", flat_pictures(120))
    write_video(videos / "show" / "two x.mkv", flat_pictures(120, shade=1))
    write_srt(captions / "one.srt", ONE)
    write_json3(captions / "show" / "two x.en.json3", TWO)
    write_srt(captions / "show" / "two x.de.srt", [(0, 5, "Nicht auf Englisch.")])
    whole = (videos / "one.mkv").read_bytes()
    (videos / "truncated.mkv").write_bytes(whole[: len(whole) // 2])
    write_srt(captions / "truncated.srt", ONE)
    write_video(videos / "unreadable.mkv", flat_pictures(20))
    (captions / "unreadable.vtt").write_text("this is no VTT")
    write_video(videos / "silent.mkv", flat_pictures(20))
    write_srt(captions / "unseen.srt", ONE)
    return root


@pytest.fixture(scope="session")
def options(media: Path, sentences: Path) -> list[str]:
    """What a run over the media takes, besides --out."""
    folders = ["--videos", str(media / "videos"), "--captions", str(media / "captions")]
    linear = ["--sentiment", "linear", "--sentences", str(sentences), "--max-neutral", "0.3"]
    return [*folders, *linear, "--short-side", "48", "--workers", "1", "--clips-per-shard", "3"]


@pytest.fixture(scope="session")
def prepared(prepare_data: Command, options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run that nothing stopped."""
    out = tmp_path_factory.mktemp("prepared") / "shards"
    assert prepare_data.main([*options, "--out", str(out)]) == 0
    return out


@pytest.fixture
def error_line(prepare_data: Command, capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    """Run with options that cannot be; the one line on stderr."""

    def run(argv: list[str]) -> str:
        capsys.readouterr()
        assert prepare_data.main(argv) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(lines) == 1
        assert lines[0].startswith("emotion-train prepare-data: error: ")
        return lines[0]

    return run
