from pathlib import Path

import pytest

from emotion_runtime.errors import EmotionError
from emotion_train.commands.prepare_data import read_names
from emotion_train.prepare.excluded import BOLD_VIDEOS
from emotion_train.prepare.pairing import key_of, pair


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def chosen(tmp_path: Path, videos: list[str], captions: list[str], language: str = "en") -> dict[str, str]:
    """Name of each video that has captions -> its caption file."""
    roots = tree(tmp_path / "v", *videos), tree(tmp_path / "c", *captions)
    pairs = pair(*roots, tmp_path / "w", language=language, exclude=frozenset())
    return {job.name: job.files[1].relative_to(tmp_path / "c").as_posix() for job in pairs.jobs}


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        (["a.srt"], "a.srt"),
        (["a.en.vtt", "a.de.vtt"], "a.en.vtt"),
        (["a.en.vtt", "a.srt"], "a.srt"),  # without a language: the video's own
        (["a.en.srt", "a.en.vtt", "a.en.json3"], "a.en.json3"),
        (["a.en-orig.json3", "a.en.vtt"], "a.en-orig.json3"),
        (["a.en-US.vtt", "a.info.json"], "a.en-US.vtt"),
        (["a.EN.srt", "a.en.srt"], "a.en.srt"),
    ],
)
def test_of_several_captions_the_best_are_taken(captions: list[str], expected: str, tmp_path: Path):
    assert chosen(tmp_path, ["a.mp4"], captions) == {"a": expected}


def test_another_language_is_taken_on_request(tmp_path: Path):
    assert chosen(tmp_path, ["a.mp4"], ["a.en.vtt", "a.de.vtt"], "de") == {"a": "a.de.vtt"}


def test_names_with_points_and_folders(tmp_path: Path):
    videos = ["show/s01.e02.mkv", "s01.e02.mp4", "x.en.webm"]
    captions = ["show/s01.e02.en.vtt", "s01.e02.srt", "x.en.srt", "x.en.en.srt"]
    assert chosen(tmp_path, videos, captions) == {
        "show/s01.e02": "show/s01.e02.en.vtt",
        "s01.e02": "s01.e02.srt",
        "x.en": "x.en.srt",
    }


def test_what_stays_alone_is_listed(tmp_path: Path):
    videos = tree(tmp_path / "v", "a.mp4", "b.mp4", "c.mp4", "d.mp4", "notes.txt", ".hidden.mp4")
    captions = tree(tmp_path / "c", "a.srt", "c.de.srt", "d.srt", "e.en.srt", "f/a.srt")
    pairs = pair(videos, captions, tmp_path / "w", language="en", exclude=frozenset({"d", "nothing"}))
    assert [job.name for job in pairs.jobs] == ["a"]
    assert pairs.videos_without_captions == ["b", "c"]
    assert pairs.captions_without_video == ["e.en.srt", "f/a.srt"]
    assert pairs.excluded == ["d"]


def test_videos_of_bold_are_left_out_by_their_ids(tmp_path: Path):
    names = ("show/CrlfWnsS7ac.mp4", "_a9SWtcaNj8&t=3.mp4", "kept.mp4", "CrlfWnsS7acX.mp4")
    videos = tree(tmp_path / "v", *names)
    captions = tree(tmp_path / "c", *(name.replace(".mp4", ".srt") for name in names))
    pairs = pair(videos, captions, tmp_path / "w", language="en", exclude=BOLD_VIDEOS)
    assert sorted(pairs.excluded) == ["_a9SWtcaNj8&t=3", "show/CrlfWnsS7ac"]
    assert sorted(job.name for job in pairs.jobs) == ["CrlfWnsS7acX", "kept"]
    assert len(BOLD_VIDEOS) == 11
    assert read_names(Path("bold")) == BOLD_VIDEOS


def test_two_videos_of_one_name_are_refused(tmp_path: Path):
    with pytest.raises(EmotionError, match=r"a\.mkv and .*a\.mp4 have the same name.*move or rename one"):
        chosen(tmp_path, ["a.mp4", "a.mkv"], ["a.srt"])


def test_names_to_exclude_as_editors_of_windows_save_them(tmp_path: Path):
    (tmp_path / "names.txt").write_text("a\r\nb c\r\n", encoding="utf-8-sig", newline="")
    assert read_names(tmp_path / "names.txt") == {"a", "b c"}


def test_all_excluded(tmp_path: Path):
    roots = tree(tmp_path / "v", "a.mp4"), tree(tmp_path / "c", "a.srt")
    with pytest.raises(EmotionError, match=r"none of 1 videos .* has captions .*; 1 are excluded"):
        pair(*roots, tmp_path / "w", language="en", exclude=frozenset({"a"}))


def test_keys_are_plain_and_never_the_same():
    names = ["plain-Name_1", "a b", "a_b", "a.b", "a/b", "é", "x" * 80, "x" * 81]
    keys = [key_of(name) for name in names]
    assert keys[0] == "plain-Name_1"
    assert keys[2] == "a_b"
    assert len(set(keys)) == len(keys)
    assert all(key.replace("-", "").replace("_", "").isalnum() and key.isascii() for key in keys)
    assert max(len(f"{key}-00000.000.jpg") for key in keys) <= 100
