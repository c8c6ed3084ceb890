"""Banks of text embeddings, the words behind them, and the tower that they belong to."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_model import SMALL

from emotion_runtime.errors import EmotionError
from emotion_train.datasets.bold import CATEGORIES
from emotion_train.datasets.meld import EMOTIONS
from emotion_train.heads import HeadCard, LinearHead
from emotion_train.language.labels import EKMAN
from emotion_train.language.phrases import (
    CATEGORY_PHRASES,
    EKMAN_PHRASES,
    TEMPLATES,
    load_phrases,
    phrases_for,
)
from emotion_train.language.tokenizer import tokenize
from emotion_train.model import EmotionCLIP
from emotion_train.probing.zero_shot import check_tower, text_tower_sha256, zero_shot_head, zero_shot_weight

WORDS = {"joy": ("joy", "so happy"), "fear": ("scared",)}


@pytest.fixture(scope="module")
def model() -> EmotionCLIP:
    torch.manual_seed(0)
    return EmotionCLIP(replace(SMALL, text_vocab=49408)).eval()


def other(model: EmotionCLIP, name: str) -> EmotionCLIP:
    """The same model but for one number of one tensor."""
    changed = EmotionCLIP(model.config).eval()
    changed.load_state_dict(model.state_dict())
    with torch.no_grad():
        dict(changed.named_parameters())[name].view(-1)[-1] += 1e-3
    return changed


def test_the_bank_is_a_mean_of_prompts(model: EmotionCLIP):
    weight = zero_shot_weight(model, WORDS)
    assert weight.shape == (2, SMALL.embed_dim)
    assert weight.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(weight, axis=1), 1, atol=1e-6)
    for row, variants in zip(weight, WORDS.values(), strict=True):
        total = np.zeros(SMALL.embed_dim)
        for phrase in variants:
            for template in TEMPLATES:
                with torch.no_grad():
                    tokens = tokenize([template.replace("{}", phrase)])
                    feature = model.encode_text(tokens)[0].double().numpy()
                total += feature / math.sqrt((feature**2).sum())
        np.testing.assert_allclose(row, total / math.sqrt((total**2).sum()), atol=1e-5)
    assert row @ weight[0] < 0.999  # the classes differ


def test_the_head_says_what_it_is(model: EmotionCLIP):
    head = zero_shot_head(model, "ab" * 32, {"test_accuracy": 0.25}, phrases=WORDS, dataset="meld")
    card = head.card
    assert (card.kind, card.labels, card.activation) == ("zero_shot", ["joy", "fear"], "softmax")
    assert card.temperature == pytest.approx(0.07, rel=1e-5)  # as training starts
    assert (card.metrics, card.dataset) == ({"test_accuracy": 0.25}, "meld")
    assert not head.bias.any()
    check_tower(head, model)


@pytest.mark.parametrize(
    "name",
    [
        "backbone.token_embedding.weight",
        "backbone.positional_embedding",
        "backbone.transformer.resblocks.1.mlp.c_fc.weight",
        "backbone.ln_final.bias",
        "backbone.text_projection",
    ],
)
def test_a_bank_of_another_text_tower_is_refused(model: EmotionCLIP, name: str):
    changed = other(model, name)
    head = zero_shot_head(changed, "ab" * 32, {}, phrases=WORDS)
    with pytest.raises(EmotionError) as caught:
        check_tower(head, model)
    message = str(caught.value)
    assert "\n" not in message
    assert text_tower_sha256(model)[:12] in message
    assert text_tower_sha256(changed)[:12] in message


@pytest.mark.parametrize(
    "name", ["backbone.visual.proj", "visual_head.frame_position_embedding.weight", "logit_scale"]
)
def test_a_bank_outlives_what_is_trained_beside_a_locked_tower(model: EmotionCLIP, name: str):
    check_tower(zero_shot_head(model, "ab" * 32, {}, phrases=WORDS), other(model, name))


def test_a_probe_is_no_bank(model: EmotionCLIP):
    card = HeadCard("probe", ["a", "b"], "softmax", 1.0, {}, "ab" * 32)
    with pytest.raises(EmotionError, match=r"fitted on labels \(kind probe\): expected a zero-shot head"):
        check_tower(LinearHead(np.zeros((2, 4), np.float32), np.zeros(2, np.float32), card), model)


def test_every_class_has_phrases_in_the_heads_order():
    assert tuple(EKMAN_PHRASES) == EKMAN
    assert tuple(CATEGORY_PHRASES) == CATEGORIES
    for phrases in (EKMAN_PHRASES, CATEGORY_PHRASES):
        assert all(len(set(variants)) >= 3 for variants in phrases.values())
    # No phrase stands for two categories, or the bank could not tell these apart.
    said = [phrase for variants in CATEGORY_PHRASES.values() for phrase in variants]
    assert len(said) == len(set(said))


def test_labels_of_a_task_find_their_phrases_in_its_order():
    phrases = phrases_for(EMOTIONS)
    assert tuple(phrases) == EMOTIONS
    assert phrases["joy"] == EKMAN_PHRASES["happiness"]
    assert phrases["neutral"] == EKMAN_PHRASES["neutral"]
    alphabetical = phrases_for([name.capitalize() for name in sorted(CATEGORIES)])
    assert list(alphabetical)[:2] == ["Affection", "Anger"]
    assert alphabetical == {name.capitalize(): said for name, said in CATEGORY_PHRASES.items()}
    assert phrases_for(["bored", "thrilled"]) == {"bored": ("bored",), "thrilled": ("thrilled",)}


def test_phrases_by_name_or_from_a_file(tmp_path: Path):
    assert load_phrases("ekman") == EKMAN_PHRASES
    assert load_phrases("bold") == CATEGORY_PHRASES
    file = tmp_path / "moods.txt"
    text = "focused: absorbed; I am reading.\n# moods of a class\n\nbored\n"
    file.write_text(text, encoding="utf-8-sig")
    assert load_phrases(str(file)) == {"focused": ("absorbed", "I am reading."), "bored": ("bored",)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"bored\n", "names 1 labels: expected two or more"),
        (
            b"bored\nhappy\nbored: so bored\n",
            "line 3: 'bored: so bored', expected a label that does not occur above",
        ),
        (b"happy\n: no name\n", "line 2: ': no name', expected a label that does not occur above"),
        (b"happy\nbl\xf6d\n", "not UTF-8 text"),
    ],
)
def test_a_file_that_is_none_of_labels(content: bytes, said: str, tmp_path: Path):
    file = tmp_path / "moods.txt"
    file.write_bytes(content)
    with pytest.raises(EmotionError) as caught:
        load_phrases(str(file))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_label_set():
    with pytest.raises(EmotionError, match="no label set 'moods': expected ekman or bold, or a text file"):
        load_phrases("moods")
