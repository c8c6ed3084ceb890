"""The table of reweighted logits against the loss of a batch and loops written from Eq. 5 and 6."""

import math
import re
from pathlib import Path

import pytest
import torch
from made_shards import SENTENCES, write_set
from small_model import build

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.batch import ClipTextBatch
from emotion_train.figures.reweighting import (
    BatchSource,
    ReweightedBatch,
    choose_rows,
    decode_sentence,
    draw_batch,
    format_logit,
    reweight,
    reweighting_page,
)
from emotion_train.language.tokenizer import tokenize
from emotion_train.losses import sentiment_guided_contrastive_loss
from emotion_train.model.encode import encode_clips

SPEC = PreprocessSpec(size=48, patch=16, short_side=60)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_set(tmp_path_factory.mktemp("made") / "shards"))


def source(data: str, batch: int) -> BatchSource:
    return BatchSource(data, batch, seed=1, sentiment="linear", sentence_confidence=0.2)


def divergence(one: list[float], other: list[float]) -> float:
    """KL of two softmaxes."""
    p, q = ([math.exp(x) / sum(map(math.exp, row)) for x in row] for row in (one, other))
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("direction", ["paper", "official"])
def test_logits_and_weights_are_those_of_the_loss(shards: str, direction: str):
    model = build("sap", preprocess=SPEC, text_vocab=49408).eval()
    pairs = draw_batch(model, source(shards, 5))
    drawn = reweight(model, pairs, beta=2.0, kl_direction=direction)
    with torch.no_grad():
        video, text = encode_clips(model, pairs.images, pairs.patch_weights), model.encode_text(pairs.text)
    sentiment = pairs.sentiment.tolist()
    for i in range(5):
        for j in range(5):
            cosine = float(video[i] @ text[j] / video[i].norm() / text[j].norm())
            assert float(drawn.logits[i, j]) == pytest.approx(cosine / 0.07, abs=1e-3)
            pair = (sentiment[i], sentiment[j]) if direction == "paper" else (sentiment[j], sentiment[i])
            weight = 0 if i == j else 2 / divergence(*pair)
            assert float(drawn.weights[i, j]) == pytest.approx(weight, rel=1e-3)
    moved = drawn.logits - drawn.weights
    target = torch.arange(5)
    rows = [torch.nn.functional.cross_entropy(m, target) for m in (moved, drawn.logits.T - drawn.weights)]
    unit = [torch.nn.functional.normalize(x, dim=-1) for x in (video, text)]
    loss = sentiment_guided_contrastive_loss(
        *unit, pairs.sentiment, logit_scale=model.logit_scale.detach().exp(), beta=2.0, kl_direction=direction
    )
    assert float(sum(rows) / 2) == pytest.approx(float(loss), abs=1e-4)


def test_both_ends_are_shown():
    weights = torch.tensor([0.1, 7.0, 0.0, math.inf, 0.2, 3.0, 0.3])
    assert choose_rows(weights, 2, 5) == [2, 3, 1, 4, 0]  # the positive, the two heaviest, the two lightest
    assert choose_rows(weights, 2, 4) == [2, 3, 1, 0]
    assert choose_rows(weights, 2, 2) == [2, 3]
    assert choose_rows(weights, 2, 20) == [2, 3, 1, 5, 6, 4, 0]  # all there are


def handmade() -> ReweightedBatch:
    text = tokenize(["I'm so sorry.", "Sad | indeed!", "Don't be sad", "What a day", "Great, isn't it?"])
    sentiment = torch.zeros(5, 7)
    sentiment[:, 4] = 5.0
    sentiment[4] = torch.tensor([0, 0, 0, 9.0, 0, 0, 0])
    pairs = ClipTextBatch(torch.zeros(5, 1), torch.arange(5), torch.zeros(5, 1), text, sentiment)
    weights = torch.full((5, 5), 0.25).fill_diagonal_(0)
    weights[0, 1:] = torch.tensor([math.inf, 710.0, 12.0, 0.1])
    logits = torch.zeros(5, 5)
    logits[0] = torch.tensor([10.68, 12.6, 13.0, 9.81, 15.2])
    return ReweightedBatch(pairs, logits, weights)


def test_the_table_is_the_papers():
    page = reweighting_page(handmade(), 0, 4, "A made batch.")
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in page.splitlines()
        if line.startswith("| ")
    ]
    assert rows == [
        ["text", "sentiment", "logit"],
        ["i'm so sorry. **(positive sample)**", "sadness 96 %", "10.7"],  # 1 / (1 + 6 e^-5)
        ["sad \\| indeed!", "sadness 96 %", "12.6 → removed"],
        ["don't be sad", "sadness 96 %", "13 → -697"],
        ["great, isn't it?", "happiness 100 %", "15.2 → 15.1"],
    ]
    # Of 20 pairs one is infinite and three are above 10; the other 17 are below 0.5.
    assert "Of the 20 negative pairs of the batch 5.0 % are removed and 15.0 % lose more than 10" in page
    assert "85.0 % lose less than 0.5" in page


def test_a_sentence_is_what_the_encoder_reads():
    long = "word " * 200
    assert [decode_sentence(tokens) for tokens in tokenize(["Fine by me!", long])] == [
        "fine by me!",
        ("word " * 75).strip(),
    ]


def test_numbers_keep_three_digits():
    assert [format_logit(x) for x in (10.68, -97.63, -697.4, -12345.6, 0.0, -(2.0**52), -math.inf)] == [
        "10.7", "-97.6", "-697", "-12346", "0", "removed", "removed",
    ]  # fmt: skip


def test_a_batch_of_shards_has_its_captions(shards: str):
    pairs = draw_batch(build("sap", preprocess=SPEC, text_vocab=49408), source(shards, 6))
    assert {decode_sentence(tokens) for tokens in pairs.text} <= {text.lower() for text in SENTENCES}


def test_what_cannot_be_shown(shards: str, tmp_path: Path):
    with pytest.raises(EmotionError, match="--positive 5: expected 0 to 4"):
        reweighting_page(handmade(), 5, 5, "")
    with pytest.raises(EmotionError, match="--rows 1: expected 2 or more"):
        reweighting_page(handmade(), 0, 1, "")
    model = build("sap", preprocess=SPEC, text_vocab=49408)
    with pytest.raises(EmotionError, match="has 20 clips, too few for a batch of 21"):
        draw_batch(model, source(shards, 21))
    with pytest.raises(EmotionError, match=r"index.json: does not exist"):
        draw_batch(model, source(str(tmp_path), 2))
