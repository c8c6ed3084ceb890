"""Caption files as words with times: SubRip (.srt), WebVTT (.vtt) and YouTube's JSON.

Sounds in brackets and songs between notes are left out, and so are the lines that rolling captions show a
second time. Where a file gives times of lines only, a line's words share its time by their lengths.
"""

import html
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from emotion_runtime.errors import EmotionError

SUFFIXES = (".json3", ".json", ".vtt", ".srt")  # best first: those with times of words

# How long saying a text takes at least: times of words say when one begins, and captions stay on the screen.
SECONDS_A_TEXT, SECONDS_A_LETTER = 0.2, 0.06

_TIME = r"(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}"
_WORD_TIME = re.compile(rf"<({_TIME})>")
_VOICE = re.compile(r"^\s*<v[ .][^>]*>")  # WebVTT names who speaks
_TAG = re.compile(r"<[^>]*>|\{\\[^}]*\}")
_NO_SPEECH = re.compile(r"\[[^\]]*\]|\([^)]*\)|[♪♫][^♪♫]*[♪♫]?")
_TURN = re.compile(r"^\s*(?:>>+|[-\u2013\u2014](?=\s|\w)|[A-Z][A-Z0-9 .'#-]+:(?=\s|$))\s*")
_TOUCHING = 0.05  # seconds between cues that a screen shows without a break


@dataclass(frozen=True, slots=True)
class Word:
    """start, end: seconds. turn: with it another person may begin to speak."""

    text: str
    start: float
    end: float
    turn: bool = False


@dataclass(frozen=True, slots=True)
class Captions:
    """Words of a file, in the order of its cues. overlapping: cues that begin before the one before ends.

    repeated: cues that show nothing new.
    """

    words: list[Word]
    cues: int
    overlapping: int
    repeated: int


@dataclass(frozen=True, slots=True)
class Cue:
    """One cue. lines: each of pieces of text and the second it begins at, None where no word has a time."""

    start: float
    end: float
    lines: list[list[tuple[str, float | None]]]

    def texts(self) -> list[str]:
        """Each line in plain words."""
        return [" ".join("".join(text for text, _ in line).split()) for line in self.lines]


class _Segment(msgspec.Struct):
    utf8: str = ""
    offset: float | None = msgspec.field(default=None, name="tOffsetMs")


class _Event(msgspec.Struct):
    start: float = msgspec.field(default=0.0, name="tStartMs")
    duration: float = msgspec.field(default=0.0, name="dDurationMs")
    segs: list[_Segment] = []


class _Json3(msgspec.Struct):
    events: list[_Event]


class _Line(msgspec.Struct):
    text: str
    start: float
    duration: float


def read_captions(path: Path) -> Captions:
    """Words of a caption file.

    .json and .json3: YouTube's `{"events": [{"tStartMs", "dDurationMs", "segs"}]}` or a list of
    `{"text", "start", "duration"}`.

    Raises:
        EmotionError: the file cannot be read, is damaged, or holds no word.

    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise EmotionError(
            f"captions {path}: {error.strerror}; check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise EmotionError(f"captions {path}: not in UTF-8; convert: iconv -t UTF-8 -f THEIRS") from error
    cues = _json_cues(path, text) if ".json" in path.suffix.lower() else _text_cues(path, text)
    cues.sort(key=lambda cue: cue.start)  # stable: cues of one moment stay as the file has them
    fresh = list(_without_repeats(cues))
    words = [word for cue, limit in _with_limits(fresh) for word in _words(cue, limit)]
    if not words:
        raise EmotionError(
            f"captions {path}: no spoken word in {len(cues)} cues; expected sentences with times"
        )
    overlapping = sum(after.start < before.end - _TOUCHING for before, after in pairwise(fresh))
    return Captions(words, len(cues), overlapping, len(cues) - len(fresh))


def _text_cues(path: Path, text: str) -> list[Cue]:
    import webvtt  # noqa: PLC0415 - only data preparation needs it

    kind = path.suffix.removeprefix(".").lower()
    try:
        captions = webvtt.from_buffer(io.StringIO(text.lstrip()), format=kind).captions
    except webvtt.errors.MalformedFileError as error:
        raise EmotionError(
            f"captions {path}: no {kind.upper()} file; check that it opens elsewhere"
        ) from error
    cues = []
    for caption in captions:
        start, end = _seconds(caption.start), _seconds(caption.end)
        cues.append(Cue(start, end, [_pieces(line, start) for line in caption.raw_text.split("\n")]))
    return cues


def _pieces(line: str, start: float) -> list[tuple[str, float | None]]:
    """A line cut at the times of words that WebVTT may hold, as YouTube writes them."""
    first, *rest = _WORD_TIME.split(_VOICE.sub(">> ", line))  # text, time, text, time, text ...
    plain = [html.unescape(_TAG.sub("", part)) for part in (first, *rest[1::2])]
    if not rest:
        return [(plain[0], None)]
    return list(zip(plain, [start, *(_seconds(time) for time in rest[::2])], strict=True))


def _json_cues(path: Path, text: str) -> list[Cue]:
    try:
        data = msgspec.json.decode(text, type=_Json3 | list[_Line])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise EmotionError(
            f'captions {path}: {error}; expected {{"events": [{{"tStartMs", "dDurationMs", "segs"}}]}} or '
            '[{"text", "start", "duration"}]'
        ) from error
    if isinstance(data, list):
        return [
            Cue(line.start, line.start + line.duration, [[(part, None)] for part in line.text.split("\n")])
            for line in data
        ]
    return [_event_cue(event) for event in data.events if any(seg.utf8.strip() for seg in event.segs)]


def _event_cue(event: _Event) -> Cue:
    start = event.start / 1000
    # The first segment has no offset; where no other has one, the event gives times of lines only.
    timed = any(segment.offset is not None for segment in event.segs[1:])
    lines: list[list[tuple[str, float | None]]] = [[]]
    for segment in event.segs:
        begins = start + (segment.offset or 0) / 1000 if timed else None
        for number, part in enumerate(segment.utf8.split("\n")):
            if number:
                lines.append([])
            lines[-1].append((part, begins))
    return Cue(start, start + event.duration / 1000, lines)


def _without_repeats(cues: list[Cue]) -> Iterator[Cue]:
    """Cues without the lines that a rolling display has moved up from the cue before."""
    shown: list[str] = []
    ended = 0.0
    for cue in cues:
        lines = [line for line, text in zip(cue.lines, cue.texts(), strict=True) if text]
        texts = [text for text in cue.texts() if text]
        again = 0
        if cue.start < ended + _TOUCHING:
            again = max((n for n in range(1, len(texts) + 1) if texts[:n] == shown[-n:]), default=0)
        shown, ended = texts, cue.end
        if len(texts) > again:
            yield Cue(cue.start, cue.end, lines[again:])


def _with_limits(cues: list[Cue]) -> Iterator[tuple[Cue, float]]:
    """Each cue with the second by which it has been said: captions may stay until long after."""
    for cue, after in zip(cues, [*cues[1:], None], strict=True):
        limit = max(cue.start, cue.end)
        if after is not None and after.start < cue.end:
            limit = min(cue.end, max(after.start, cue.start + _least_seconds(" ".join(cue.texts()))))
        yield cue, limit


def _words(cue: Cue, limit: float) -> Iterator[Word]:
    """The words of a cue, each with its share of the time of its piece."""
    pieces = list(_spoken(cue))
    if all(start is None for _, _, start in pieces):
        yield from _share([(text, turn) for text, turn, _ in pieces], cue.start, limit)
        return
    # Among lines with times of words, a line of one word has none: it begins with its cue.
    timed = [(text, turn, cue.start if start is None else start) for text, turn, start in pieces]
    for (text, turn, start), after in zip(timed, [*(start for _, _, start in timed[1:]), limit], strict=True):
        yield from _share([(text, turn)], start, min(max(after, start), start + _least_seconds(text)))


def _spoken(cue: Cue) -> Iterator[tuple[str, bool, float | None]]:
    """Pieces of a cue that are speech: text, whether another person may begin with it, start if known."""
    for line in cue.lines:
        turn = False
        for number, (raw, start) in enumerate(line):
            text = _NO_SPEECH.sub(" ", raw)
            if number == 0:
                text, marks = _TURN.subn("", text)
                turn = bool(marks)
            if text.strip():
                yield text, turn, start
                turn = False


def _share(parts: list[tuple[str, bool]], start: float, end: float) -> Iterator[Word]:
    """Words of parts that were said from start to end, by their numbers of letters."""
    words = [(word, turn and not n) for text, turn in parts for n, word in enumerate(text.split())]
    letters = sum(len(word) + 1 for word, _ in words)
    passed = 0
    for word, turn in words:
        begins = start + (end - start) * passed / letters
        passed += len(word) + 1
        yield Word(word, begins, start + (end - start) * passed / letters, turn)


def _least_seconds(text: str) -> float:
    return SECONDS_A_TEXT + SECONDS_A_LETTER * len(text.strip())


def _seconds(time: str) -> float:
    """Of [H:]MM:SS.mmm."""
    *hours, minutes, seconds = time.replace(",", ".").split(":")
    return int(hours[0] if hours else 0) * 3600 + int(minutes) * 60 + float(seconds)
