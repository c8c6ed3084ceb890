"""Read caption files as words with times: SubRip (.srt), WebVTT (.vtt) and YouTube's JSON.

Sounds in brackets, songs between notes, and lines that rolling captions repeat are left out. If a file has
times of lines only, the time of a line is divided among its words in proportion to their lengths.
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

SUFFIXES = (".json3", ".json", ".vtt", ".srt")  # preferred first: those with times of words

# Minimum duration of speaking a text: word times state only the start, and captions stay on screen longer.
SECONDS_A_TEXT, SECONDS_A_LETTER = 0.2, 0.06

_TIME = r"(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}"
_WORD_TIME = re.compile(rf"<({_TIME})>")
_VOICE = re.compile(r"^\s*<v[ .][^>]*>")  # WebVTT can name the speaker
_TAG = re.compile(r"<[^>]*>|\{\\[^}]*\}")
_NO_SPEECH = re.compile(r"\[[^\]]*\]|\([^)]*\)|[♪♫][^♪♫]*[♪♫]?")
_TURN = re.compile(r"^\s*(?:>>+|[-\u2013\u2014](?=\s|\w)|[A-Z][A-Z0-9 .'#-]+:(?=\s|$))\s*")
_TOUCHING = 0.05  # seconds between cues that are shown without a visible gap


@dataclass(frozen=True, slots=True)
class Word:
    """A spoken word.

    Attributes:
        text: The word with its punctuation.
        start: Seconds.
        end: Seconds.
        turn: Whether another person may begin to speak with this word.
    """

    text: str
    start: float
    end: float
    turn: bool = False


@dataclass(frozen=True, slots=True)
class Captions:
    """The content of a caption file.

    Attributes:
        words: In the order of the cues.
        cues: Number of cues.
        overlapping: Number of cues that begin before the previous one ends.
        repeated: Number of cues that show nothing new.
    """

    words: list[Word]
    cues: int
    overlapping: int
    repeated: int


@dataclass(frozen=True, slots=True)
class Cue:
    """One cue.

    Attributes:
        start: Seconds.
        end: Seconds.
        lines: Each is a list of text pieces with the second at which they begin, None if words have no times.
    """

    start: float
    end: float
    lines: list[list[tuple[str, float | None]]]

    def texts(self) -> list[str]:
        """Return the text of each line, without times."""
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
    """Read the words of a caption file.

    Args:
        path: A .srt or .vtt file, or .json and .json3: YouTube's
            `{"events": [{"tStartMs", "dDurationMs", "segs"}]}` or a list of `{"text", "start", "duration"}`.

    Raises:
        EmotionError: The file cannot be read, is corrupt, or contains no words.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise EmotionError(
            f"captions {path}: {error.strerror}; check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise EmotionError(
            f"captions {path}: not UTF-8; convert the file: iconv -t UTF-8 -f ENCODING"
        ) from error
    cues = _json_cues(path, text) if ".json" in path.suffix.lower() else _text_cues(path, text)
    cues.sort(key=lambda cue: cue.start)  # stable: cues with the same start stay in the order of the file
    fresh = list(_without_repeats(cues))
    words = [word for cue, limit in _with_limits(fresh) for word in _words(cue, limit)]
    if not words:
        raise EmotionError(
            f"captions {path}: no spoken words in {len(cues)} cues; expected sentences with times"
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
            f"captions {path}: not a valid {kind.upper()} file; check it in a video player"
        ) from error
    cues = []
    for caption in captions:
        start, end = _seconds(caption.start), _seconds(caption.end)
        cues.append(Cue(start, end, [_pieces(line, start) for line in caption.raw_text.split("\n")]))
    return cues


def _pieces(line: str, start: float) -> list[tuple[str, float | None]]:
    """Cut a line at the word times that a WebVTT file of YouTube contains."""
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
    # The first segment has no offset; if no other has one either, the event has times of lines only.
    timed = any(segment.offset is not None for segment in event.segs[1:])
    lines: list[list[tuple[str, float | None]]] = [[]]
    for segment in event.segs:
        begins = start + (segment.offset or 0) / 1000 if timed else None
        for index, part in enumerate(segment.utf8.split("\n")):
            if index:
                lines.append([])
            lines[-1].append((part, begins))
    return Cue(start, start + event.duration / 1000, lines)


def _without_repeats(cues: list[Cue]) -> Iterator[Cue]:
    """Yield cues without the lines that rolling captions repeat from the previous cue."""
    shown: list[str] = []
    ended = 0.0
    for cue in cues:
        lines = [line for line, text in zip(cue.lines, cue.texts(), strict=True) if text]
        texts = [text for text in cue.texts() if text]
        repeated = 0
        if cue.start < ended + _TOUCHING:
            repeated = max((n for n in range(1, len(texts) + 1) if texts[:n] == shown[-n:]), default=0)
        shown, ended = texts, cue.end
        if len(texts) > repeated:
            yield Cue(cue.start, cue.end, lines[repeated:])


def _with_limits(cues: list[Cue]) -> Iterator[tuple[Cue, float]]:
    """Yield each cue with the latest second of its speech: captions may stay on screen much longer."""
    for cue, after in zip(cues, [*cues, None][1:], strict=True):
        limit = max(cue.start, cue.end)
        if after is not None and after.start < cue.end:
            limit = min(cue.end, max(after.start, cue.start + _least_seconds(" ".join(cue.texts()))))
        yield cue, limit


def _words(cue: Cue, limit: float) -> Iterator[Word]:
    """Yield the words of a cue, each with its part of the time of its piece."""
    pieces = list(_spoken(cue))
    if all(start is None for _, _, start in pieces):
        yield from _divide_time([(text, turn) for text, turn, _ in pieces], cue.start, limit)
        return
    # A line of one word has no time even if other lines have word times: it begins with its cue.
    timed = [(text, turn, cue.start if start is None else start) for text, turn, start in pieces]
    for (text, turn, start), after in zip(timed, [*(start for _, _, start in timed[1:]), limit], strict=True):
        yield from _divide_time([(text, turn)], start, min(max(after, start), start + _least_seconds(text)))


def _spoken(cue: Cue) -> Iterator[tuple[str, bool, float | None]]:
    """Yield the spoken pieces of a cue: text, whether another person may begin to speak, start if known."""
    for line in cue.lines:
        turn = False
        for index, (raw, start) in enumerate(line):
            text = _NO_SPEECH.sub(" ", raw)
            if index == 0:
                text, marks = _TURN.subn("", text)
                turn = bool(marks)
            if text.strip():
                yield text, turn, start
                turn = False


def _divide_time(parts: list[tuple[str, bool]], start: float, end: float) -> Iterator[Word]:
    """Divide the time from start to end among the words of `parts` by their numbers of letters."""
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
    """Parse [H:]MM:SS.mmm into seconds."""
    *hours, minutes, seconds = time.replace(",", ".").split(":")
    return int(hours[0] if hours else 0) * 3600 + int(minutes) * 60 + float(seconds)
