"""Runs that are stopped, killed, repeated, and done elsewhere end in the same bytes, or say why not."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Command
from filelock import FileLock
from made_media import ONE, flat_pictures, write_srt, write_video

from emotion_train.clips.reader import ShardSet

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[3] / "train" / "prepare_data.py"


def written(out: Path) -> dict[str, bytes]:
    """The shards and their index."""
    return {path.name: path.read_bytes() for path in [*out.glob("shard-*.tar"), out / "index.json"]}


# --- the same again


def test_a_second_call_does_nothing(
    prepare_data: Command, options: list[str], prepared: Path, monkeypatch: pytest.MonkeyPatch
):
    before = {path: path.stat().st_mtime_ns for path in [*prepared.glob("shard-*"), *prepared.glob("work/*")]}
    monkeypatch.setattr("emotion_train.prepare.run.run_local", None)  # if it were called, it would fail
    assert prepare_data.main([*options, "--out", str(prepared)]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_two_processes_write_the_same_bytes(
    prepare_data: Command, options: list[str], prepared: Path, tmp_path: Path
):
    assert prepare_data.main([*options, "--workers", "2", "--out", str(tmp_path / "two")]) == 0
    assert written(tmp_path / "two") == written(prepared)


def started(prepare_data: Command, argv: list[str], attempts: int = 3) -> int:
    """Run, again if Ray did not start within the 30 s it gives itself: a busy machine may need more."""
    try:
        status: int = prepare_data.main(argv)
    except Exception as error:  # Ray raises nothing narrower
        if attempts == 1 or "timed out during startup" not in str(error):
            raise
        return started(prepare_data, argv, attempts - 1)
    return status


@pytest.mark.nightly  # starting Ray takes a minute; the test above compares processes of this machine
def test_ray_writes_the_same_bytes(prepare_data: Command, options: list[str], prepared: Path, tmp_path: Path):
    ray = pytest.importorskip("ray")
    argv = [*options, "--engine", "ray", "--workers", "2", "--out", str(tmp_path / "ray")]
    assert started(prepare_data, argv) == 0
    assert written(tmp_path / "ray") == written(prepared)
    assert not ray.is_initialized()


def test_ray_that_is_not_installed(
    error_line: Callable[[list[str]], str],
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "ray", None)
    line = error_line([*options, "--engine", "ray", "--out", str(tmp_path / "ray")])
    assert line.endswith("--engine ray needs Ray: pip install ray, or use --engine local")


def test_ray_that_cannot_be_reached(
    error_line: Callable[[list[str]], str],
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    ray = pytest.importorskip("ray")

    def refuse(**settings: object) -> None:
        assert settings["address"] == "nowhere:1"
        raise ConnectionError("Could not find\nany running Ray instance")

    monkeypatch.setattr(ray, "init", refuse)
    argv = [*options, "--engine", "ray", "--address", "nowhere:1", "--out", str(tmp_path / "ray")]
    line = error_line(argv)
    assert "--address nowhere:1: Ray cannot be reached (Could not find any running Ray instance)" in line


def test_a_run_killed_in_the_middle_of_a_video_goes_on(
    prepare_data: Command, options: list[str], prepared: Path, tmp_path: Path
):
    out = tmp_path / "killed"
    argv = [sys.executable, str(SCRIPT), *options, "--out", str(out)]
    run = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    # The first temporary tar is the moment at which a video is half written.
    while not list(out.glob("work/.*.tar.*.tmp")) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert not (out / "index.json").exists()
    assert len(list(out.glob("work/*.tmp"))) == 1
    assert prepare_data.main([*options, "--out", str(out)]) == 0
    assert written(out) == written(prepared)
    assert not list(out.rglob("*.tmp"))


def test_a_run_killed_while_shards_are_written_goes_on(
    prepare_data: Command,
    options: list[str],
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    class Killed(BaseException): ...

    def kill(*_: object) -> None:
        raise Killed

    out = tmp_path / "killed"
    shutil.copytree(prepared, out)
    # Another order of clips, so that old shards would not fit the new index.
    with monkeypatch.context() as patch:
        patch.setattr("emotion_train.prepare.pack.shard_of", kill)
        with pytest.raises(Killed):
            prepare_data.main([*options, "--seed", "1", "--out", str(out)])
    assert not (out / "index.json").exists()
    assert prepare_data.main([*options, "--out", str(out)]) == 0
    assert written(out) == written(prepared)


def test_another_seed_is_another_order_of_the_same_clips(
    prepare_data: Command, options: list[str], prepared: Path, tmp_path: Path
):
    out = tmp_path / "seeded"
    shutil.copytree(prepared, out)
    assert prepare_data.main([*options, "--seed", "1", "--clips-per-shard", "9", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.glob("*.tar")) == ["shard-000000.tar"]  # the second one is gone
    old, new = (ShardSet.open(str(folder)) for folder in (prepared, out))
    assert new.keys != old.keys
    for number, key in enumerate(new.keys):
        assert new.read(number) == old.read(old.keys.index(key))


def test_a_video_that_changed_is_done_again(
    prepare_data: Command, options: list[str], media: Path, prepared: Path, tmp_path: Path
):
    root = tmp_path / "media"
    shutil.copytree(media, root)
    argv = [option.replace(str(media), str(root)) for option in options]
    assert prepare_data.main([*argv, "--out", str(tmp_path / "out")]) == 0
    assert written(tmp_path / "out") == written(prepared)
    write_srt(root / "captions" / "one.srt", [(0.5, 3.0, "I am so glad!"), *ONE[1:]])
    write_video(root / "videos" / "silent.mkv", flat_pictures(60))
    write_srt(root / "captions" / "silent.srt", [(1.0, 5.0, "I am sad and lonely.")])
    done = (tmp_path / "out" / "work" / "truncated.json").stat().st_mtime_ns
    assert prepare_data.main([*argv, "--out", str(tmp_path / "out")]) == 0
    shards = ShardSet.open(str(tmp_path / "out"))
    captions = {shards.record(number).caption for number in range(len(shards))}
    assert {"I am so glad!", "I am sad and lonely."} < captions
    assert "I am so happy!" not in captions
    assert len(captions) == 5
    assert (tmp_path / "out" / "work" / "truncated.json").stat().st_mtime_ns == done


def test_two_runs_at_once(error_line: Callable[[list[str]], str], options: list[str], prepared: Path):
    with FileLock(prepared / "work" / ".lock"):
        line = error_line([*options, "--out", str(prepared)])
    assert f"{prepared / 'work'}: another run is using this folder; wait for it" in line


def test_damaged_work_is_named(
    error_line: Callable[[list[str]], str],
    prepare_data: Command,
    options: list[str],
    prepared: Path,
    tmp_path: Path,
):
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    tar = out / "work" / "one.tar"
    tar.write_bytes(tar.read_bytes().replace(b'"caption"', b'"coption"'))
    line = error_line([*options, "--seed", "2", "--out", str(out)])
    assert f"{tar} is corrupt at one-0000" in line
    assert "delete it and run the same command again" in line
    tar.unlink()
    assert prepare_data.main([*options, "--out", str(out)]) == 0
    assert written(out) == written(prepared)


def test_other_settings_are_refused(
    error_line: Callable[[list[str]], str], options: list[str], prepared: Path
):
    before = written(prepared)
    line = error_line([*options, "--fps", "4", "--max-neutral", "0.05", "--out", str(prepared)])
    assert "was made with other settings (fps 8.0, now 4.0; max_neutral 0.3, now 0.05)" in line
    assert "use the same settings to continue, or choose another --out" in line
    assert written(prepared) == before


# --- disk full


def small_files(limit: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.parametrize(
    ("limit", "file"), [(20_000, "work/one.tar"), (100_000, "shard-000000.tar")], ids=["video", "shard"]
)
def test_a_disk_that_is_full(
    limit: int, file: str, prepare_data: Command, options: list[str], prepared: Path, tmp_path: Path
):
    out = tmp_path / "full"
    argv = [sys.executable, str(SCRIPT), *options, "--out", str(out)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, preexec_fn=small_files(limit))
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(errors) == 1
    assert f"{out / file} cannot be written (File too large): free disk space" in errors[0]
    assert not (out / file).exists()
    assert not (out / "index.json").exists()
    assert not list(out.rglob("*.tmp"))
    if file.startswith("shard"):  # the rest is done where there is room, in another call
        assert prepare_data.main([*options, "--out", str(out)]) == 0
        assert written(out) == written(prepared)
