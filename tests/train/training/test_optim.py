import math
from dataclasses import replace

import pytest
import torch
from small_model import SMALL
from torch import nn

from emotion_train.model import EmotionCLIP
from emotion_train.training.optim import (
    SHIFT_FACTOR,
    Rates,
    Schedule,
    parameter_groups,
    parameter_groups_by_part,
    warmup_cosine,
)


def test_warm_up_is_a_straight_line_to_one():
    assert [warmup_cosine(step, steps=100, warmup=4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert warmup_cosine(0, steps=10, warmup=0) == 1.0


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_the_rate_falls_as_a_cosine_to_the_floor(floor: float):
    for step in range(20, 121):
        angle = math.pi * (step - 20) / 100
        expected = floor + (1 - floor) * (1 + math.cos(angle)) / 2
        assert warmup_cosine(step, steps=120, warmup=20, floor=floor) == pytest.approx(expected)
    assert warmup_cosine(500, steps=120, warmup=20, floor=floor) == pytest.approx(floor)


def test_a_run_of_warm_up_only():
    assert warmup_cosine(4, steps=5, warmup=5) == 1.0


def test_decay_is_for_matrices_and_the_stem_is_slow():
    model = nn.ModuleDict({"stem": nn.Conv2d(3, 4, 3), "norm": nn.LayerNorm(4), "out": nn.Linear(4, 2)})
    groups = parameter_groups(model.named_parameters(), lr=0.01, weight_decay=0.2, slow="stem", factor=0.3)
    found = {id(p): (g["weight_decay"], g["lr"], g["peak_lr"]) for g in groups for p in g["params"]}
    assert {name: found[id(p)] for name, p in model.named_parameters()} == {
        "stem.weight": (0.2, 0.003, 0.003),
        "stem.bias": (0.0, 0.003, 0.003),
        "norm.weight": (0.0, 0.01, 0.01),
        "norm.bias": (0.0, 0.01, 0.01),
        "out.weight": (0.2, 0.01, 0.01),
        "out.bias": (0.0, 0.01, 0.01),
    }


def test_every_learning_parameter_is_in_one_group():
    model = EmotionCLIP(SMALL)
    frozen = {"backbone.token_embedding.weight", "backbone.text_projection"}
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    groups = parameter_groups(model.named_parameters(), lr=1.0, weight_decay=0.1)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    expected = {id(p) for name, p in model.named_parameters() if name not in frozen}
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == expected
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert id(model.logit_scale) not in decayed
    assert {id(p) for p in model.parameters() if p.ndim >= 2 and p.requires_grad} == decayed


def test_without_a_slow_name_all_learn_at_the_same_rate():
    groups = parameter_groups(nn.Linear(2, 2).named_parameters(), lr=0.5, weight_decay=0.1)
    assert {group["lr"] for group in groups} == {0.5}
    torch.optim.AdamW(groups)


@pytest.mark.parametrize(("warmup", "end"), [(10_000, 3.27e-5), (0, 5e-5), (500, 5e-5)])
def test_the_authors_schedule(warmup: int, end: float):
    """A cosine that falls at each epoch's first step from epoch 0 on, with the warm-up laid over it."""
    schedule = Schedule(24_400, warmup, warmup_start=1e-5, final_lr=1e-10, stride=976, whole_cosine=True)
    assert schedule.rate(warmup, 5e-5) == pytest.approx(end, rel=1e-3)
    for peak in (5e-5, 1e-8):
        reached = 1e-10 + (peak - 1e-10) * (1 + math.cos(math.pi * (warmup // 976) / 25)) / 2
        for step in {0, 1, warmup // 3, max(warmup - 1, 0)} if warmup else ():
            share = step / warmup
            expected = 1e-5 * peak * (1 - share) + reached * share
            assert schedule.rate(step, peak) == pytest.approx(expected), step
        for step in (10_000, 10_735, 10_736, 12_000, 20_000, 24_399):
            expected = 1e-10 + (peak - 1e-10) * (1 + math.cos(math.pi * (step // 976) / 25)) / 2
            assert schedule.rate(step, peak) == pytest.approx(expected), step


def test_the_parts_of_a_model_have_rates_of_their_own():
    model = EmotionCLIP(SMALL)
    rates = Rates(matrices=1.0, vectors=2.0, head_matrices=3.0, head_vectors=4.0, scale=5.0)
    groups = parameter_groups_by_part(model.named_parameters(), rates=rates, weight_decay=0.1)
    found = {id(p): (g["weight_decay"], g["lr"], g["peak_lr"]) for g in groups for p in g["params"]}
    assert len(found) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        head = name.startswith("visual_head.")
        expected = (3.0 if head else 1.0) if parameter.ndim >= 2 else (4.0 if head else 2.0)
        if name == "logit_scale":
            expected = 5.0
        decay = 0.1 if parameter.ndim >= 2 else 0.0
        assert found[id(parameter)] == (decay, expected, expected), name


def test_shares_of_masking_learn_faster_and_do_not_decay():
    model = EmotionCLIP(replace(SMALL, subject="saam"))
    groups = parameter_groups_by_part(
        model.named_parameters(), rates=Rates(1e-8, 5e-5, 2e-8, 6e-5, 3e-8), weight_decay=0.1
    )
    found = {id(p): (g["weight_decay"], g["peak_lr"]) for g in groups for p in g["params"]}
    shifts = [p for n, p in model.named_parameters() if n.endswith("subject_shift")]
    assert len(shifts) == 3
    assert all(found[id(shift)] == (0.0, 5e-5 * SHIFT_FACTOR) for shift in shifts)
