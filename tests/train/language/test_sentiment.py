from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from emotion_runtime.errors import EmotionError
from emotion_train.language.goemotions import Sentences, load_sentences
from emotion_train.language.labels import EKMAN
from emotion_train.language.sentence_bank import SentenceBank, build_bank
from emotion_train.language.sentiment import LinearSentiment, TransformersSentiment, load_sentiment

HARTMANN = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")  # the paper's model's order
TO_EKMAN = [0, 1, 2, 3, 5, 6, 4]  # EKMAN: ..., happiness, sadness, surprise, neutral
WORDS = ["i", "am", "so", "happy", "sad", "this", "is", "great", "no", "!"]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def train_sentences(sentence_folder: Path) -> Sentences:
    """Return 8,000 training sentences."""
    sentences = load_sentences(sentence_folder, "train")
    return Sentences(sentences.texts[:8000], sentences.labels[:8000])


@pytest.fixture(scope="module")
def linear(train_sentences: Sentences) -> LinearSentiment:
    return LinearSentiment(train_sentences)


def saved_model(folder: Path, classes: tuple[str, ...]) -> BertForSequenceClassification:
    """Save a small random BERT and its tokenizer with `save_pretrained`."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            id2label=dict(enumerate(classes)),
            label2id={name: number for number, name in enumerate(classes)},
        )
    ).eval()
    with torch.no_grad():
        model.classifier.weight.mul_(50)  # logits that differ
    model.save_pretrained(folder)
    return model


# --- linear


@pytest.mark.slow
def test_linear_model_predicts_the_emotion_of_unseen_sentences(
    linear: LinearSentiment, sentence_folder: Path
):
    dev = load_sentences(sentence_folder, "dev")
    logits = linear(dev.texts)
    assert logits.shape == (len(dev.texts), 7)
    assert logits.dtype == np.float32
    majority = np.bincount(dev.labels).max() / len(dev.labels)
    accuracy = (logits.argmax(axis=1) == dev.labels).mean()
    assert accuracy > 0.5
    assert accuracy > majority + 0.1
    obvious = ["I hate this, I am so angry", "That is disgusting", "I am scared", "I love it, great, thanks!"]
    assert [EKMAN[c] for c in linear(obvious).argmax(axis=1)] == ["anger", "disgust", "fear", "happiness"]


@pytest.mark.slow
def test_linear_model_is_deterministic(linear: LinearSentiment, train_sentences: Sentences):
    texts = train_sentences.texts[:50]
    np.testing.assert_array_equal(LinearSentiment(train_sentences)(texts), linear(texts))


def test_a_class_without_sentences_is_named(train_sentences: Sentences):
    rows = np.flatnonzero(train_sentences.labels != EKMAN.index("disgust"))
    fewer = Sentences([train_sentences.texts[row] for row in rows], train_sentences.labels[rows])
    with pytest.raises(EmotionError, match="no sentence of disgust"):
        LinearSentiment(fewer)


# --- transformers


def test_logits_are_those_of_the_model_in_ekman_order(tmp_path: Path, train_sentences: Sentences):
    model = saved_model(tmp_path / "model", HARTMANN)
    sentiment = load_sentiment(str(tmp_path / "model"), train_sentences)
    assert isinstance(sentiment, TransformersSentiment)
    texts = ["I am so happy", "no!", "This is great, so great!", "I am sad, so sad, so so so sad"]
    got = sentiment(texts)
    assert got.dtype == np.float32
    for text, logits in zip(texts, got, strict=True):  # one by one: without padding
        words = text.lower().replace("!", " !").replace(",", " ,").split()
        ids = [2, *(5 + WORDS.index(word) if word in WORDS else 1 for word in words), 3]
        with torch.no_grad():
            own = model(input_ids=torch.tensor([ids])).logits[0].numpy()
        np.testing.assert_allclose(logits, own[TO_EKMAN], atol=1e-4)
    assert np.ptp(got, axis=1).min() > 0.1  # an order can be told at all


def test_batches_do_not_change_the_logits(tmp_path: Path):
    saved_model(tmp_path / "model", HARTMANN)
    texts = ["no", "I am so happy !", "this is"] * 3
    by_two, at_once = (
        TransformersSentiment(str(tmp_path / "model"), batch_size=size)(texts) for size in (2, 64)
    )
    np.testing.assert_allclose(by_two, at_once, atol=1e-5)


def test_a_missing_model(tmp_path: Path, train_sentences: Sentences):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(EmotionError, match="cannot be loaded: use a folder of save_pretrained"):
            load_sentiment(str(tmp_path / name), train_sentences)
    with pytest.raises(EmotionError, match="cannot be loaded"):
        load_sentiment("no-such-owner/no-such-model", train_sentences)


@pytest.mark.parametrize(
    "classes", [("positive", "negative"), ("joy", "happy", *HARTMANN[:3], *HARTMANN[4:6])]
)
def test_a_model_with_other_classes(classes: tuple[str, ...], tmp_path: Path):
    saved_model(tmp_path / "model", classes)
    with pytest.raises(EmotionError, match=rf"has classes \['{classes[0]}'.*expected the seven"):
        TransformersSentiment(str(tmp_path / "model"))


# --- the bank of sentences


def test_confident_keeps_only_sentences_that_the_model_is_sure_of():
    probability = np.full((8, 7), 0.05, np.float32)
    labels = np.array([0, 1, 2, 3, 4, 5, 6, 0])
    probability[np.arange(8), labels] = 0.7
    probability[7] = np.eye(7)[3] * 0.65 + 0.05  # sure of another class
    bank = SentenceBank(torch.arange(8)[:, None], torch.from_numpy(np.log(probability)), labels)
    assert bank.confident(0.5).tokens[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert bank.confident(0.0).labels.tolist() == labels.tolist()
    with pytest.raises(EmotionError, match=r"sentence_confidence 0\.9 leaves no sentence of anger, disgust"):
        bank.confident(0.9)


def test_a_bank_keeps_text_sentiment_and_label_together():
    sentences = Sentences(["a diagram", "so sad"], np.array([6, 4]))
    bank = build_bank(sentences, lambda texts: np.array([[len(text)] * 7 for text in texts], np.float32))
    assert bank.tokens[0, :4].tolist() == [49406, 320, 22697, 49407]
    assert bank.sentiment.tolist() == [[9.0] * 7, [6.0] * 7]
    assert bank.labels.tolist() == [6, 4]
