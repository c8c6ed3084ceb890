"""Regroup the words of captions into sentences (paper Sec. 3.1)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from emotion_train.prepare.captions import Word

STOPS = (".", "!", "?", "\u2026", "\u3002", "\uff01", "\uff1f")
_CLOSING = "\"'\u201d\u2019)]\u00bb*"  # characters that may follow a full stop
_ABBREVIATIONS = {
    "mr.",
    "mrs.",
    "ms.",
    "dr.",
    "prof.",
    "sr.",
    "jr.",
    "st.",
    "vs.",
    "no.",
    "lt.",
    "sgt.",
    "capt.",
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence with its start and end in seconds of the video."""

    text: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Duration."""
        return round(self.end - self.start, 3)  # to milliseconds, so that 4.3 - 2.3 is 2


def regroup(words: list[Word], *, pause: float, longest: float) -> list[Sentence]:
    """Regroup words into sentences, which end at a full stop, at a pause, and where another person begins.

    Args:
        words: In order of time.
        pause: Seconds of silence that end a sentence.
        longest: Seconds. A longer run of words without a full stop is cut at its widest gaps, if its words
            have times of their own. Automatic captions, which have no punctuation, need this.
    """
    sentences = []
    for run in _runs(words, pause):
        parts = [run] if _ends(run[-1].text, "") else _cut(run, longest)
        sentences += [_sentence(part) for part in parts]
    return sentences


def _runs(words: list[Word], pause: float) -> Iterator[list[Word]]:
    run: list[Word] = []
    for word, after in zip(words, [*words[1:], None], strict=True):
        run.append(word)
        if after is None or after.turn or after.start - word.end > pause or _ends(word.text, after.text):
            yield run
            run = []


def _ends(word: str, after: str) -> bool:
    """Return whether a sentence ends with `word`; `after` is the next word, empty if there is none."""
    bare = word.rstrip(_CLOSING)
    if not bare.endswith(STOPS):
        return False
    if bare.endswith(("...", "\u2026")):
        return not after[:1].islower()  # "I thought... that you knew"
    initial = len(bare) == 2 and bare[0].isupper() and bare[0] != "I"  # John F. Kennedy
    return not after or not (initial or bare.lower() in _ABBREVIATIONS)


def _cut(run: list[Word], longest: float) -> list[list[Word]]:
    """Cut a run at its widest gaps into parts of at most `longest` seconds; without gaps it stays whole."""
    starts, ends = (np.array([getattr(word, name) for word in run]) for name in ("start", "end"))
    gaps = np.round(starts[1:] - ends[:-1], 6)  # gaps[n] is between the words n and n + 1
    parts, pending = [], [(0, len(run))]
    while pending:
        first, stop = pending.pop()
        inside = gaps[first : stop - 1]
        if ends[stop - 1] - starts[first] <= longest or not len(inside) or inside.max() <= 0:
            parts.append(run[first:stop])
            continue
        widest = first + np.flatnonzero(inside == inside.max())
        middle = (starts[first] + ends[stop - 1]) / 2
        place = int(widest[np.abs(ends[widest] - middle).argmin()]) + 1
        pending += [(place, stop), (first, place)]  # the earlier part is next
    return parts


def _sentence(run: list[Word]) -> Sentence:
    # Cues may overlap, so the last word is not always the one that ends last.
    start, end = min(word.start for word in run), max(word.end for word in run)
    return Sentence(" ".join(word.text for word in run), round(start, 3), round(end, 3))
