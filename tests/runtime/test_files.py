"""Atomic writes: old content or new content, and one line that tells what to do."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from emotion_runtime import files
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import atomic_file, readable, remove_leftovers, with_home, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_and_its_folders_are_written(tmp_path: Path):
    path = tmp_path / "new" / "folder" / "file.txt"
    write_atomically(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert names(path.parent) == ["file.txt"]


def test_only_a_tilde_and_a_slash_stand_for_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("HOME", str(tmp_path))
    assert with_home("~/results/") == f"{tmp_path}/results/"
    for path in ("results/", "a/~/b", "~root/a", "~", "-", "face"):
        assert with_home(path) == path
    monkeypatch.setenv("HOME", "/")
    assert with_home("~/results") == "/results"
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(EmotionError, match="this user has no home folder; give the whole path"):
        with_home("~/results/")


def test_link_stays_and_its_file_is_written(tmp_path: Path):
    (tmp_path / "large").mkdir()
    link = tmp_path / "page.html"
    link.symlink_to("large/page.html")  # which does not exist yet
    for content in ("first", "second"):
        write_atomically(link, content)
        assert link.is_symlink()
        assert (tmp_path / "large" / "page.html").read_text() == content
    assert names(tmp_path / "large") == ["page.html"]


def test_link_to_a_device_is_replaced_and_not_the_device(tmp_path: Path):
    device, link = tmp_path / "device", tmp_path / "page.html"
    os.mkfifo(device)
    link.symlink_to(device)
    write_atomically(link, "page")
    assert link.read_text() == "page"
    assert device.is_fifo()


@pytest.mark.parametrize(
    ("name", "expected"), [("a.mp4", "a.mp4"), ("é.mp4", "é.mp4"), ("\udce9.mp4", "\ufffd.mp4")]
)
def test_names_that_are_not_utf8_can_be_read(name: str, expected: str):
    assert readable(name) == expected


def test_failing_block_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"a part of the new content" * (1 // 0))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_error_about_another_file_passes_through(tmp_path: Path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "file"):
        (tmp_path / "missing").read_bytes()
    assert names(tmp_path) == []


def test_full_disk_is_one_line_with_the_fix(tmp_path: Path):
    with (
        pytest.raises(EmotionError, match=r"file cannot be written \(No space left.*\): empty the trash"),
        atomic_file(tmp_path / "file", fix="empty the trash"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert names(tmp_path) == []


def test_folder_that_is_a_file_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EmotionError, match=r"cannot be written \(.*\): free disk space"):
        write_atomically(tmp_path / "file" / "inside", b"")


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path):
    program = (
        "import os, sys; from pathlib import Path; from emotion_runtime.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half')\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "model.engine")], check=False)
    assert killed.returncode == -9
    (tmp_path / "other.engine").write_text("complete")
    assert len(names(tmp_path)) == 2
    remove_leftovers(tmp_path, "*.json")
    assert len(names(tmp_path)) == 2
    remove_leftovers(tmp_path, "*.engine")
    assert names(tmp_path) == ["other.engine"]


def test_two_processes_with_the_same_id_do_not_share_a_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In two containers that share a folder, the second process starts while the first one writes."""
    path, written = tmp_path / "file", []

    def write_another(_descriptor: int) -> None:
        if not written:
            written.append(True)
            write_atomically(path, b"of the second")
            assert path.read_bytes() == b"of the second"

    monkeypatch.setattr(files.os, "fsync", write_another)
    write_atomically(path, b"of the first process")
    assert path.read_bytes() == b"of the first process"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_a_partly_written_file(tmp_path: Path):
    path = tmp_path / "file"
    contents = [bytes([value]) * 300_000 for value in (1, 2)]
    write_atomically(path, contents[0])
    done = threading.Event()

    def write() -> None:
        for turn in range(40):
            write_atomically(path, contents[turn % 2])
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    while not done.is_set():
        seen.add(path.read_bytes())
    thread.join()
    assert seen <= set(contents)
