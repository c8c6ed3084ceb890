"""Captions without punctuation get it from a model; sentences then end where it says."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

from emotion_runtime.errors import EmotionError
from emotion_train.prepare.captions import Word
from emotion_train.prepare.punctuation import TransformersPunctuation, restore
from emotion_train.prepare.regroup import regroup

VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "i",
    "am",
    "so",
    "happ",
    "##y",
    "sad",
    "are",
    "you",
]
MARKS = ("0", ".", ",", "?", "-", ":")  # the labels of the paper's model


def spoken(text: str) -> list[Word]:
    """Words of a second each, without pauses."""
    return [Word(word, i, i + 1) for i, word in enumerate(text.split())]


def test_sentences_end_where_the_model_says():
    marks = {"happy": ".", "you": "?", "well": ","}
    words = restore(
        spoken("i am happy well are you we'll see"), lambda texts: [marks.get(w, "") for w in texts]
    )
    sentences = [sentence.text for sentence in regroup(words, pause=9, longest=9)]
    assert sentences == ["i am happy.", "well, are you?", "we'll see"]
    assert [word.start for word in words] == list(range(8))


def test_captions_with_punctuation_and_words_with_a_mark_stay():
    def never(_: Sequence[str]) -> list[str]:
        raise AssertionError

    whole = spoken("i am happy. are you")
    assert restore(whole, never) == whole
    words = restore(spoken("so, " + "well " * 60), lambda texts: ["."] * len(texts))
    assert [word.text for word in words[:2]] == ["so,", "well."]


@pytest.mark.parametrize("count", [1, 179, 180, 181, 500])
def test_every_word_is_seen_once_with_its_neighbours(count: int):
    seen = []

    def predict(texts: Sequence[str]) -> list[str]:
        seen.append(len(texts))
        return [f"<{text}>" for text in texts]

    words = restore(spoken(" ".join(map(str, range(count)))), predict)
    assert [word.text for word in words] == [f"{i}<{i}>" for i in range(count)]
    assert max(seen) <= 20 + 180 + 20


def saved(folder: Path, labels: tuple[str, ...], positions: int = 512) -> BertForTokenClassification:
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)}, max_position_embeddings=positions,
    )  # fmt: skip
    model = BertForTokenClassification(config).eval()
    with torch.no_grad():
        model.classifier.weight.mul_(50)  # so that labels differ
    model.save_pretrained(folder)
    return model


def test_the_mark_of_a_word_is_the_label_of_its_last_token(tmp_path: Path):
    model = saved(tmp_path / "model", MARKS)
    found = TransformersPunctuation(str(tmp_path / "model"))(["i", "am", "happy", "sad"])
    ids = [VOCABULARY.index(token) for token in ("[CLS]", "i", "am", "happ", "##y", "sad", "[SEP]")]
    labels = model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
    assert found == ["" if MARKS[labels[i]] == "0" else MARKS[labels[i]] for i in (1, 2, 4, 5)]


@pytest.mark.parametrize(("word", "positions"), [("so", 24), ("happy", 24), ("happy", 512)])
def test_words_of_more_tokens_than_the_model_sees_all_get_a_mark(tmp_path: Path, word: str, positions: int):
    model = saved(tmp_path / "model", ("!", "?"), positions)
    assert len(set(model.config.id2label.values())) == 2  # no label is "no mark"
    found = TransformersPunctuation(str(tmp_path / "model"))([word] * 400)
    assert len(found) == 400
    assert set(found) <= {"!", "?"}


def test_other_models_are_refused(tmp_path: Path):
    saved(tmp_path / "names", ("O", "B-PER"))
    with pytest.raises(EmotionError, match="has labels B-PER: expected marks such as"):
        TransformersPunctuation(str(tmp_path / "names"))
    with pytest.raises(EmotionError, match="cannot be loaded: use a folder"):
        TransformersPunctuation(str(tmp_path))
