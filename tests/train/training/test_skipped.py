"""Clips that cannot be read are named and counted, and too many end the run."""

import logging
from pathlib import Path

import pytest

from emotion_runtime.errors import EmotionError
from emotion_train.batch import SkippedClip
from emotion_train.training.skipped import SkippedClips, skipped_keys

A, B, C = (SkippedClip(key, f"{key} is corrupt") for key in "abc")


def test_each_is_counted_once_also_over_a_resumption(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "skipped.jsonl"
    assert skipped_keys(path) == []
    first = SkippedClips(path, 10)
    first.add([])
    assert not path.exists()
    first.add([A, A, B])
    with path.open("a") as file:
        file.write('{"clip": "c", "rea')  # killed while writing
    assert skipped_keys(path) == ["a", "b"]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        SkippedClips(path, 10).add([B])
        assert caplog.text == ""
        first.add([C])
    assert "skipped clip c (3 so far): c is corrupt" in caplog.text


@pytest.mark.parametrize(("limit", "fits"), [(0, []), (2, [A, B])])
def test_too_many_end_the_run(limit: int, fits: list[SkippedClip], tmp_path: Path):
    skipped = SkippedClips(tmp_path / "skipped.jsonl", limit)
    skipped.add(fits)
    with pytest.raises(EmotionError) as error:
        skipped.add([C])
    assert str(error.value) == (
        f"{limit + 1} clips cannot be read, expected at most {limit} (clips.skip_limit); they are listed in "
        f"{tmp_path}/skipped.jsonl; the last: c is corrupt"
    )
    assert skipped_keys(tmp_path / "skipped.jsonl")[-1] == "c"


def test_processes_count_together_also_after_a_resumption(tmp_path: Path):
    """With any number of processes, before and after: the limit is that of the run."""
    path = tmp_path / "skipped.jsonl"
    first, second = (SkippedClips(path, 3) for _ in range(2))
    first.add([A])
    second.add([A, B])  # a clip that two of them meet is counted once
    assert skipped_keys(path) == ["a", "b"]
    third, fourth = (SkippedClips(path, 3) for _ in range(2))
    third.add([A, B])
    fourth.add([C, B])
    with pytest.raises(EmotionError, match="4 clips cannot be read, expected at most 3"):
        third.add([SkippedClip("d", "d is corrupt")])
    assert skipped_keys(path) == ["a", "b", "c", "d"]


def test_clips_of_an_earlier_run_in_the_folder_are_not_counted(tmp_path: Path):
    """The first process removes the file, perhaps after another has started."""
    path = tmp_path / "skipped.jsonl"
    SkippedClips(path, 1).add([A])
    skipped = SkippedClips(path, 1)
    path.unlink()
    skipped.add([B])
    assert skipped_keys(path) == ["b"]
