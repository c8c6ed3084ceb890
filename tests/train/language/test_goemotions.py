from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from emotion_runtime.errors import EmotionError
from emotion_train.language.goemotions import load_sentences
from emotion_train.language.labels import EKMAN

GO_EMOTIONS = [
    "anger",
    "disgust",
    "fear",
    "happiness",
    "neutral",
    "sadness",
    "surprise",
]  # labels.txt's order


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_sentences_have_exactly_one_label(sentence_folder: Path, split: str):
    lines = (sentence_folder / f"{split}.tsv").read_text(encoding="utf-8").split("\n")
    columns = [line.rstrip("\r").split("\t") for line in lines if line]
    single = [(text, GO_EMOTIONS[int(label)]) for text, label, _ in columns if label.isdigit()]
    assert len(single) < len(columns)  # some have several
    sentences = load_sentences(sentence_folder, split)
    assert sentences.labels.dtype == np.int64
    assert list(zip(sentences.texts, [EKMAN[c] for c in sentences.labels], strict=True)) == single


def test_known_sentences(sentence_folder: Path):
    sentences = load_sentences(sentence_folder, "train")
    emotions = dict(zip(sentences.texts, sentences.labels, strict=True))
    assert emotions["My favourite food is anything I didn't have to cook myself."] == EKMAN.index("neutral")
    assert emotions["To make her feel threatened"] == EKMAN.index("fear")
    assert emotions["WHY THE FUCK IS BAYLESS ISOING"] == EKMAN.index("anger")
    dev = load_sentences(sentence_folder, "dev")
    assert not any(text.startswith("You know the answer man") for text in dev.texts)  # of two emotions
    assert set(Counter(sentences.labels.tolist())) == set(range(7))


def test_a_missing_split(sentence_folder: Path):
    with pytest.raises(EmotionError, match=r"no GoEmotions split at .*valid\.tsv"):
        load_sentences(sentence_folder, "valid")


@pytest.mark.parametrize(
    "line", [b"no label", b"a\tanger\tx", b"a\t7\tx", b"a\t-1\tx", b"a\t0,9\tx", b"a\t\tx", b"a" * 200_000]
)
def test_a_line_of_another_form_is_named(line: bytes, tmp_path: Path):
    (tmp_path / "labels.txt").write_text("\n".join(GO_EMOTIONS))
    (tmp_path / "train.tsv").write_bytes(b"good\t0\tx\n" + line + b"\n")
    with pytest.raises(
        EmotionError, match=r"train\.tsv, line 2: expected a sentence, a tab and the index .* 6"
    ):
        load_sentences(tmp_path, "train")


def test_files_as_editors_save_them(tmp_path: Path):
    (tmp_path / "labels.txt").write_text("\n".join(GO_EMOTIONS) + "\n", encoding="utf-8-sig")
    (tmp_path / "train.tsv").write_text("good\t3\tx\r\n\r\nbad\t5\n\n", encoding="utf-8-sig", newline="")
    sentences = load_sentences(tmp_path, "train")
    assert sentences.texts == ["good", "bad"]
    assert [EKMAN[label] for label in sentences.labels] == ["happiness", "sadness"]
    for name in ("labels.txt", "train.tsv"):
        before = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes("K\u00e4se".encode("latin-1"))
        with pytest.raises(EmotionError, match=rf"{name} is not UTF-8 text .*: save it as UTF-8"):
            load_sentences(tmp_path, "train")
        (tmp_path / name).write_bytes(before)
