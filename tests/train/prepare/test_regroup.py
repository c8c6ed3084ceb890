import pytest

from emotion_train.prepare.captions import Word
from emotion_train.prepare.regroup import Sentence, regroup


def spoken(
    text: str, *, gap_after: dict[str, float] | None = None, turns: tuple[str, ...] = ()
) -> list[Word]:
    """Words of a second each, without a gap except after those named."""
    words, t = [], 0.0
    for word in text.split():
        words.append(Word(word, t, t + 1, word in turns))
        t += 1 + (gap_after or {}).get(word, 0)
    return words


def grouped(text: str, *, longest: float = 100, **gaps: object) -> list[str]:
    words = spoken(text, **gaps)  # type: ignore[arg-type]  # what `spoken` takes
    return [sentence.text for sentence in regroup(words, pause=1.0, longest=longest)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Go on. I will.", ["Go on.", "I will."]),
        ("Really?! Yes", ["Really?!", "Yes"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("Ask Mr. Brown. Dr. No is in St. Ives.", ["Ask Mr. Brown.", "Dr. No is in St. Ives."]),
        ("John F. Kennedy and I. You too.", ["John F. Kennedy and I.", "You too."]),
        ("I thought... that you... Never mind.", ["I thought... that you...", "Never mind."]),
        ("I thought… you knew… No.", ["I thought… you knew…", "No."]),
        ("It costs 3.50 now. Fine.", ["It costs 3.50 now.", "Fine."]),
        ("My name is Mr.", ["My name is Mr."]),
    ],
)
def test_full_stops(text: str, expected: list[str]):
    assert grouped(text) == expected


def test_times_are_those_of_the_first_and_the_last_word():
    words = [Word("A", 1.0004, 1.5), Word("b.", 1.5, 2.2509), Word("C.", 4.0, 4.5)]
    assert regroup(words, pause=1.0, longest=10) == [Sentence("A b.", 1.0, 2.251), Sentence("C.", 4.0, 4.5)]
    assert Sentence("x", 2.3, 4.3).seconds == 2.0  # 4.3 - 2.3 is a little less


def test_a_pause_ends_a_sentence_and_a_shorter_one_does_not():
    assert grouped("oh well so what", gap_after={"well": 1.01}) == ["oh well", "so what"]
    assert grouped("oh well so what", gap_after={"well": 0.99}) == ["oh well so what"]


def test_another_person_ends_a_sentence():
    assert grouped("are you sure no", turns=("no",)) == ["are you sure", "no"]


def test_speech_without_full_stops_is_cut_at_its_widest_gaps():
    text = "a b c d e f g h"
    assert grouped(text, longest=5, gap_after={"c": 0.5, "e": 0.3, "f": 0.1}) == ["a b c", "d e", "f g h"]
    assert grouped(text, longest=8, gap_after={"c": 0.5}) == ["a b c", "d e f g h"]
    assert grouped(text, longest=8.5, gap_after={"c": 0.5}) == [text]


def test_of_equal_gaps_the_middle_one_is_cut():
    gaps = dict.fromkeys("abcdefgh", 0.5)
    assert grouped("a b c d e f g h", longest=6, gap_after=gaps) == ["a b c d", "e f g h"]


def test_a_long_sentence_with_a_full_stop_stays_whole():
    assert grouped("a b c d e f.", longest=3, gap_after={"c": 0.5}) == ["a b c d e f."]


def test_words_without_times_of_their_own_are_not_cut():
    assert grouped("a b c d e f", longest=3) == ["a b c d e f"]


def test_an_hour_without_a_full_stop():
    words = [Word(f"w{n}", n * 0.5, n * 0.5 + 0.4 - 0.0001 * n) for n in range(3000)]
    sentences = regroup(words, pause=1.0, longest=10)
    assert " ".join(sentence.text for sentence in sentences) == " ".join(word.text for word in words)
    assert max(sentence.seconds for sentence in sentences) <= 10


def test_overlapping_cues_end_with_the_last_word_to_be_heard():
    words = [Word("A", 0.0, 5.0), Word("b.", 1.0, 2.0)]
    assert regroup(words, pause=1.0, longest=10) == [Sentence("A b.", 0.0, 5.0)]
