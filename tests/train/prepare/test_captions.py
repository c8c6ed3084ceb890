import json
from pathlib import Path

import pytest

from emotion_runtime.errors import EmotionError
from emotion_train.prepare.captions import Word, read_captions

SRT = """1
00:00:01,000 --> 00:00:03,000
Don't <i>go</i>!

2
00:00:03,500 --> 00:00:05,500
{\\an8}[door slams]
(sighs) I must.

3
00:01:00,250 --> 00:01:01,250
♪ la la la ♪
"""

# Written by YouTube for its own captions: each line is shown a second time while the next one is spoken.
BLANK = " "  # a line of one space, as YouTube writes
ROLLING_VTT = f"""WEBVTT
Kind: captions
Language: en

00:00:00.000 --> 00:00:01.990 align:start position:0%
{BLANK}
so<00:00:00.480><c> this</c><00:00:01.200><c> is</c>

00:00:01.990 --> 00:00:02.000 align:start position:0%
so this is
{BLANK}

NOTE a comment is nobody's speech

00:00:02.000 --> 00:00:04.000 align:start position:0%
so this is
it

00:00:04.000 --> 00:00:04.010 align:start position:0%
it
{BLANK}
"""

JSON3 = {
    "wireMagic": "pb3",
    "events": [
        {"tStartMs": 0, "dDurationMs": 90000, "id": 1, "wpWinPosId": 1},
        {
            "tStartMs": 1000,
            "dDurationMs": 5000,
            "segs": [
                {"utf8": "well", "acAsrConf": 0},
                {"utf8": " hello", "tOffsetMs": 400},
                {"utf8": " there", "tOffsetMs": 3000},
            ],
        },
        {"tStartMs": 4500, "dDurationMs": 10, "aAppend": 1, "segs": [{"utf8": "\n"}]},
        {"tStartMs": 4600, "dDurationMs": 3000, "segs": [{"utf8": "[Music]"}]},
        {
            "tStartMs": 5000,
            "dDurationMs": 2000,
            "segs": [{"utf8": "you"}, {"utf8": " two", "tOffsetMs": 500}],
        },
    ],
}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def texts(words: list[Word]) -> list[str]:
    return [word.text for word in words]


def test_words_of_a_line_share_its_time_by_their_letters(tmp_path: Path):
    captions = read_captions(write(tmp_path, "a.srt", SRT))
    assert texts(captions.words) == ["Don't", "go!", "I", "must."]
    # 2 s for "Don't " and "go! ": 6 + 4 letters; 2 s for "I " and "must. ": 2 + 6.
    times = [time for word in captions.words for time in (word.start, word.end)]
    assert times == pytest.approx([1.0, 2.2, 2.2, 3.0, 3.5, 4.0, 4.0, 5.5])
    assert (captions.cues, captions.overlapping, captions.repeated) == (3, 0, 0)


def test_rolling_captions_are_read_once(tmp_path: Path):
    captions = read_captions(write(tmp_path, "a.vtt", ROLLING_VTT))
    assert texts(captions.words) == ["so", "this", "is", "it"]
    assert [word.start for word in captions.words] == pytest.approx([0.0, 0.48, 1.2, 2.0])
    # Saying a word takes 0.2 s and 0.06 s a letter.
    assert [word.end for word in captions.words[:3]] == pytest.approx([0.32, 0.92, 1.52])
    assert (captions.cues, captions.repeated) == (4, 2)


def test_a_line_repeated_after_a_while_is_kept_twice(tmp_path: Path):
    text = "WEBVTT\n\n00:01.000 --> 00:02.000\nNo!\n\n00:02.500 --> 00:03.500\nNo!\n"
    assert texts(read_captions(write(tmp_path, "a.vtt", text)).words) == ["No!", "No!"]


@pytest.mark.parametrize("name", ["a.json3", "a.json"])
def test_youtube_json_with_times_of_words(name: str, tmp_path: Path):
    captions = read_captions(write(tmp_path, name, json.dumps(JSON3)))
    assert texts(captions.words) == ["well", "hello", "there", "you", "two"]
    assert [word.start for word in captions.words] == pytest.approx([1.0, 1.4, 4.0, 5.0, 5.5])
    # A word ends when the next begins, or when it has been said: 0.2 s and 0.06 s a letter.
    assert [word.end for word in captions.words] == pytest.approx([1.4, 1.9, 4.5, 5.38, 5.88])


def test_youtube_json_with_times_of_lines(tmp_path: Path):
    events = [{"tStartMs": 2000, "dDurationMs": 2000, "segs": [{"utf8": "ab\ncd &"}]}]
    words = read_captions(write(tmp_path, "a.json", json.dumps({"events": events}))).words
    times = [(word.text, round(word.start, 3), round(word.end, 3)) for word in words]
    assert times == [("ab", 2.0, 2.75), ("cd", 2.75, 3.5), ("&", 3.5, 4.0)]


def test_the_transcripts_of_the_authors_tool(tmp_path: Path):
    lines = [{"text": "one two", "start": 1.0, "duration": 2.0}, {"text": "three", "start": 4, "duration": 1}]
    words = read_captions(write(tmp_path, "a.json", json.dumps(lines))).words
    assert [(word.text, word.start, word.end) for word in words] == [
        ("one", 1.0, 2.0),
        ("two", 2.0, 3.0),
        ("three", 4.0, 5.0),
    ]


def test_overlapping_captions_are_kept_and_counted(tmp_path: Path):
    text = (
        "1\n00:00:00,000 --> 00:00:06,000\nI am here now.\n\n"
        "2\n00:00:04,000 --> 00:00:08,000\nAnd so am I.\n\n"
        "3\n00:00:04,100 --> 00:00:05,000\nStop!\n"
    )
    captions = read_captions(write(tmp_path, "a.srt", text))
    assert captions.overlapping == 2
    assert " ".join(texts(captions.words)) == "I am here now. And so am I. Stop!"
    spans = {word.text: (word.start, word.end) for word in captions.words}
    assert spans["now."][1] == pytest.approx(4.0)  # the later line takes the screen over
    assert spans["I."][1] == pytest.approx(4.0 + 0.2 + 0.06 * 12)  # but what was said takes its time
    assert spans["Stop!"] == pytest.approx((4.1, 5.0))


def test_turns_of_speakers(tmp_path: Path):
    text = (
        "WEBVTT\n\n00:01.000 --> 00:04.000\n- Who is it?\n- Me.\n\n"
        "00:05.000 --> 00:06.000\nJOHN F.: Well-known.\n\n00:07.000 --> 00:08.000\n&gt;&gt; A-ha\n\n"
        "00:09.000 --> 00:10.000\n<v.loud Eve>And <c.red>I</c></v>\n"
    )
    words = read_captions(write(tmp_path, "a.vtt", text)).words
    assert texts(words) == ["Who", "is", "it?", "Me.", "Well-known.", "A-ha", "And", "I"]
    assert [word.text for word in words if word.turn] == ["Who", "Me.", "Well-known.", "A-ha", "And"]


def test_a_cue_that_ends_before_it_begins_takes_no_time(tmp_path: Path):
    text = "1\n00:00:05,000 --> 00:00:01,000\nNo time.\n\n2\n00:00:06,000 --> 00:00:08,000\nSome.\n"
    words = read_captions(write(tmp_path, "a.SRT", text)).words
    assert [(word.text, word.start, word.end) for word in words] == [
        ("No", 5.0, 5.0),
        ("time.", 5.0, 5.0),
        ("Some.", 6.0, 8.0),
    ]


def test_cues_out_of_order_are_put_in_order(tmp_path: Path):
    text = "1\n00:00:05,000 --> 00:00:06,000\nlater\n\n2\n00:00:01,000 --> 00:00:02,000\nsooner\n"
    assert texts(read_captions(write(tmp_path, "a.srt", text)).words) == ["sooner", "later"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.srt", b"nothing of the kind", "not a valid SRT file"),
        ("a.srt", b"", "not a valid SRT file"),
        ("a.vtt", b"1\n00:00:01,000 --> 00:00:02,000\nHi\n", "not a valid VTT file"),
        ("a.vtt", b"WEBVTT\n\n", "no spoken words in 0 cues"),
        ("a.json", b"[]", "no spoken words in 0 cues"),
        ("a.json3", b'{"events": []}', "no spoken words in 0 cues"),
        ("a.vtt", b"WEBVTT\n\n00:01.000 --> 00:02.000\n[Music]\n", "no spoken words in 1 cues"),
        ("a.json", b"{}", "missing required field `events`.*expected"),
        ("a.json3", b'{"events": [', "truncated"),
        ("a.json", b'[{"text": "a", "start": "1", "duration": 1}]', r"Expected `float`.*\$\[0\]\.start"),
        (
            "a.srt",
            "1\n00:00:01,000 --> 00:00:02,000\né\n".encode("latin-1"),
            "not UTF-8; convert the file: iconv",
        ),
    ],
)
def test_invalid_captions_are_refused(name: str, data: bytes, message: str, tmp_path: Path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(EmotionError, match=message) as error:
        read_captions(tmp_path / name)
    assert str(error.value).startswith(f"captions {tmp_path / name}: ")
    assert "\n" not in str(error.value)


def test_captions_that_are_not_there(tmp_path: Path):
    with pytest.raises(EmotionError, match="No such file"):
        read_captions(tmp_path / "no.srt")
