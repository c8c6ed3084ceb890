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
