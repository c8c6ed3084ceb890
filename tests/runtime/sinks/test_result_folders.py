"""Folders of results: a file for each source, continued by the next run."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import av
import pytest
from command_runs import FRAMES, events, mistake, write_video

from emotion_runtime.cli import main
from emotion_runtime.sinks import video as video_sink
from emotion_runtime.sinks.video_file import VideoFile
from made_videos import make_base

FILL = (46, 42, 40)  # BGR of a zone


def test_folder_of_videos_is_processed_file_by_file_and_continued(
    model: list[str], video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    videos, results = tmp_path / "videos", tmp_path / "results"
    videos.mkdir()
    for name in ("a.avi", "b.avi", "c.avi"):
        shutil.copy(video, videos / name)
    argv = ["--source", str(videos), *model, "--jsonl", f"{results}/"]
    assert main([*argv, "--max-frames", "40"]) == 0  # stops in the second file
    assert sorted(path.name for path in results.iterdir()) == ["a.avi.jsonl", "b.avi.jsonl.partial"]
    (videos / "d.avi").write_bytes(video.read_bytes()[: len(video.read_bytes()) // 2])
    complete = (results / "a.avi.jsonl").read_bytes()
    capsys.readouterr()
    for finished in (1, 3):
        assert main(argv) == 2
        printed = capsys.readouterr().err
        assert f"{finished} of 4 files were finished by an earlier run" in printed
        assert "d.avi failed" in printed.splitlines()[-1]
        assert printed.count("person 1: ") == 4 - finished
    names = sorted(path.name for path in results.iterdir())
    assert names == ["a.avi.jsonl", "b.avi.jsonl", "c.avi.jsonl", "d.avi.jsonl.partial"]
    assert [len(events(results / name)) for name in names[:3]] == [FRAMES] * 3
    assert complete == (results / "a.avi.jsonl").read_bytes()
    assert main([*argv, "--smoothing", "0", "--max-frames", "1"]) == 0  # other options: another run
    assert "finished by an earlier run" not in capsys.readouterr().err


def test_results_of_another_file_of_the_name_are_neither_taken_nor_replaced(
    model: list[str], video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for folder in ("monday", "tuesday"):
        (tmp_path / folder).mkdir()
        shutil.copy(video, tmp_path / folder / "a.avi")
    outputs = [*model, "--jsonl", f"{tmp_path}/results/"]
    monday, tuesday = (["--source", str(tmp_path / folder), *outputs] for folder in ("monday", "tuesday"))
    assert main(monday) == 0
    capsys.readouterr()
    line = mistake(main(tuesday), capsys.readouterr().err)
    assert "has the results of" in line
    assert "give another folder to --jsonl" in line
    results = tmp_path / "results" / "a.avi.jsonl"
    assert {line["source"] for line in events(results)} == {str(tmp_path / "monday" / "a.avi")}
    assert main([*tuesday, "--overwrite"]) == 0
    assert {line["source"] for line in events(results)} == {str(tmp_path / "tuesday" / "a.avi")}


def test_file_that_was_replaced_after_its_results_is_processed_again(
    model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    video, results = tmp_path / "a.avi", tmp_path / "results" / "a.avi.jsonl"
    argv = ["--source", str(video), *model, "--jsonl", f"{tmp_path}/results/"]
    write_video(video, 3)
    assert main(argv) == 0
    monkeypatch.chdir(tmp_path)
    relative = ["--source", "a.avi", *argv[2:]]  # the same file
    before = results.stat().st_mtime_ns
    assert main(relative) == 0
    assert results.stat().st_mtime_ns == before
    write_video(video, 5)
    os.utime(video, ns=(before + 1, before + 1))
    assert main(argv) == 0
    assert len(events(results)) == 5


def test_a_file_of_the_future_is_finished_until_it_is_changed(
    model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    video, results = tmp_path / "a.avi", tmp_path / "results" / "a.avi.jsonl"
    argv = ["--source", str(video), *model, "--jsonl", f"{tmp_path}/results/"]
    tomorrow = time.time() + 86400
    for count in (3, 5):
        write_video(video, count)
        os.utime(video, (tomorrow, tomorrow))
        assert main(argv) == 0
        assert len(events(results)) == count
        capsys.readouterr()
        assert main(argv) == 0
        assert "1 of 1 files were finished by an earlier run" in capsys.readouterr().err


def test_folder_of_results_keeps_the_names_of_sources(model: list[str], video: Path, tmp_path: Path):
    """So that zones, which are given by name, are those of a run without the folder."""
    (tmp_path / "videos").mkdir()
    shutil.copy(video, tmp_path / "videos" / "a.avi")
    sources = [f"--source=door={video}", f"--source=more={tmp_path / 'videos'}", "--zone=door=0,0,1,1"]
    outputs = ["--jsonl", f"{tmp_path}/results/", "--record", f"{tmp_path}/copies/"]
    assert main([*sources, *model, *outputs, "--max-frames", "50"]) == 0
    results = {path.name: events(path) for path in (tmp_path / "results").iterdir()}
    assert {name: {line["source"] for line in lines} for name, lines in results.items()} == {
        "door.jsonl": {"door"},
        "a.avi.jsonl.partial": {"more/a.avi"},
    }
    corners = {}
    for name in ("door", "a"):
        with av.open(str(tmp_path / "copies" / f"{name}.mp4")) as container:
            corners[name] = next(container.decode(video=0)).to_ndarray(format="bgr24")[-8:, :8].mean((0, 1))
    assert corners["door"] == pytest.approx(FILL, abs=4)
    assert corners["a"] != pytest.approx(FILL, abs=4)


@pytest.fixture
def open_at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many recordings were open whenever one was opened."""
    counts, opened = [], set()

    class Counted(VideoFile):
        def __init__(self, path: Path, *others: Any) -> None:
            super().__init__(path, *others)
            opened.add(path)
            counts.append(len(opened))

        def close(self) -> None:
            super().close()
            opened.discard(self._path)

    monkeypatch.setattr(video_sink, "VideoFile", Counted)
    return counts


@pytest.mark.parametrize("record", ["out.mp4", "copies/"])
def test_recordings_of_many_files_are_finished_one_by_one(
    model: list[str], tmp_path: Path, record: str, open_at_once: list[int]
):
    """A long video goes on beside short ones, none of which keeps its encoder."""
    long = write_video(tmp_path / "long.avi", 12)
    (tmp_path / "short").mkdir()
    for name in "abc":
        write_video(tmp_path / "short" / f"{name}.avi", 3)
    sources = ["--source", str(long), "--source", str(tmp_path / "short")]
    assert main([*sources, *model, "--record", f"{tmp_path / 'new'}/{record}"]) == 0
    names = ["out.mp4", "out-2.mp4", "out-3.mp4", "out-4.mp4"]
    folder = tmp_path / "new"
    if record == "copies/":
        names, folder = ["long.mp4", "a.mp4", "b.mp4", "c.mp4"], folder / record
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    frames = []
    for name in names:
        with av.open(str(folder / name)) as container:
            frames.append(sum(1 for _ in container.decode(video=0)))
    assert frames == [12, 3, 3, 3]
    assert max(open_at_once) == 2


def test_recordings_of_a_file_with_a_name_have_its_sound(model: list[str], tmp_path: Path):
    (tmp_path / "films").mkdir()
    film = make_base(tmp_path / "films" / "film.mp4")
    for source, record in ((film, "out.mp4"), (film.parent, "folder.mp4"), (film, "copies/")):
        outputs = ["--record", f"{tmp_path}/{record}", "--max-frames", "3"]
        assert main([f"--source=door={source}", *model, *outputs]) == 0
    for record in ("out.mp4", "folder.mp4", "copies/door.mp4"):
        with av.open(str(tmp_path / record)) as container:
            assert [stream.type for stream in container.streams] == ["video", "audio"], record


def test_folder_of_results_needs_files(model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status = main(["--source", "demo", *model, "--jsonl", f"{tmp_path}/"])
    assert "is a folder, for results of files: demo is none" in mistake(status, capsys.readouterr().err)


def test_several_sources_in_one_run(model: list[str], video: Path, tmp_path: Path):
    other = shutil.copy(video, tmp_path / "other.avi")
    jsonl, record = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    outputs = ["--jsonl", str(jsonl), "--record", str(record)]
    assert main(["--source", str(video), "--source", str(other), *model, *outputs]) == 0
    lines = events(jsonl)
    for name in (str(video), str(other)):
        own = [line for line in lines if line["source"] == name]
        assert [line["frame"] for line in own] == list(range(FRAMES))
        assert own[-1]["persons"][0]["id"] == 1
    assert record.exists()
    assert (tmp_path / "out-2.mp4").exists()
