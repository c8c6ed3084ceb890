"""Match captions with videos."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_runtime.sources.files import VIDEO_SUFFIXES
from emotion_train.prepare.captions import SUFFIXES
from emotion_train.prepare.excluded import excluded_names
from emotion_train.prepare.work import VideoJob

_KEY_LIMIT = 60  # characters; names of tar members have room for 100


@dataclass(frozen=True, slots=True)
class VideoPairs:
    """The result of matching.

    Attributes:
        jobs: Videos to process, in order of their names.
        videos_without_captions: Names of videos.
        captions_without_video: Paths of caption files, relative to their folder.
        excluded: Names of videos that the user leaves out.
    """

    jobs: list[VideoJob]
    videos_without_captions: list[str]
    captions_without_video: list[str]
    excluded: list[str]


def pair(videos: Path, captions: Path, work: Path, *, language: str, exclude: frozenset[str]) -> VideoPairs:
    """Match every video NAME.mp4 with NAME.vtt or NAME.en.vtt in the same folder below the two roots.

    If there are several captions, those without a language tag are preferred, then those whose tag begins
    with `language`; of these JSON, which may have times of words, then .vtt, then .srt.

    Args:
        videos: Folder of the videos.
        captions: Folder of the captions.
        work: Folder for the results of the jobs.
        language: Language tag of the captions to use.
        exclude: Names of videos to leave out, see `excluded_names`.

    Raises:
        EmotionError: A folder is missing or empty, two videos have the same name, or nothing matches.
    """
    found = _videos(videos)
    texts = _files(captions, SUFFIXES, "--captions", "captions")
    chosen: dict[str, tuple[tuple[int, int, str], Path]] = {}
    unmatched = []
    for path in texts:
        name, tag = _name_and_tag(path.relative_to(captions), found)
        if name not in found:
            unmatched.append(path.relative_to(captions).as_posix())
        elif tag in ("", language) or tag.startswith(f"{language}-"):
            rank = (tag != "", SUFFIXES.index(path.suffix.lower()), tag)
            if name not in chosen or rank < chosen[name][0]:
                chosen[name] = (rank, path)
    left_out = excluded_names(found, exclude)
    named = {name: path for name, path in found.items() if name not in left_out}
    jobs = [
        VideoJob(name, key_of(name), (named[name], chosen[name][1]), work) for name in named if name in chosen
    ]
    if not jobs:
        raise EmotionError(
            f"none of {len(found)} videos in {videos} has captions among {len(texts)} files in {captions}: "
            f"expected NAME.vtt or NAME.{language}.vtt (also .srt, .json, .json3) for NAME.mp4"
            + (f"; {len(left_out)} are excluded" if left_out else "")
        )
    return VideoPairs(
        jobs,
        [name for name in named if name not in chosen],
        unmatched,
        left_out,
    )


def key_of(name: str) -> str:
    """Make a name safe for use as a key; append a hash if characters were replaced."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if plain == name and len(plain) <= _KEY_LIMIT:
        return plain
    return f"{plain[:_KEY_LIMIT]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _videos(root: Path) -> dict[str, Path]:
    """Return videos by their path below the root, without the suffix."""
    found: dict[str, Path] = {}
    for path in _files(root, VIDEO_SUFFIXES, "--videos", "videos"):
        name = path.relative_to(root).with_suffix("").as_posix()
        if name in found:
            raise EmotionError(
                f"{found[name]} and {path} have the same name, so captions cannot be matched: move or rename "
                "one"
            )
        found[name] = path
    return found


def _files(root: Path, suffixes: tuple[str, ...], option: str, what: str) -> list[Path]:
    if not root.is_dir():
        raise EmotionError(f"{option} {root}: no such folder; expected one that holds {what}")
    files = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in suffixes and path.is_file() and not path.name.startswith(".")
    )
    if not files:
        raise EmotionError(f"{option} {root}: no {what} in it; expected files {', '.join(suffixes)}")
    return files


def _name_and_tag(path: Path, videos: dict[str, Path]) -> tuple[str, str]:
    """Split `show/one.en.vtt` into (`show/one`, `en`), unless a video is called `show/one.en`."""
    name = path.with_suffix("").as_posix()
    if name in videos:
        return name, ""
    stem, _, tag = name.rpartition(".")
    return (stem, tag) if stem in videos else (name, "")
