"""Subject-aware attention masking written as a slow loop from Eq. 2-4 of the paper."""

import math

import torch
from small_model import PATCHES, SMALL, build
from torch import Tensor
from torch.nn import functional as F

from emotion_train.model import EmotionCLIP

ROWS = PATCHES + 2  # the paper's order: patches 0 .. m-1, cls m, hmn m+1
OURS = [*range(1, PATCHES + 1), 0, PATCHES + 1]  # where that order's tokens stand in [cls, patches, hmn]


def eq_4(subject: set[int]) -> list[list[float]]:
    """Return M: zeros, except for patches without subject and cls in the row and column of hmn."""
    human, cls = PATCHES + 1, PATCHES
    m = [[0.0] * ROWS for _ in range(ROWS)]
    for i in range(PATCHES):
        if i not in subject:
            m[i][human] = m[human][i] = -math.inf
    m[human][cls] = -math.inf
    return m


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    powers = [math.exp(x - top) for x in row]
    return [p / sum(powers) for p in powers]


Rows = list[list[float]]


def slow_attention(
    q: list[list[float]],
    k: list[list[float]],
    v: list[list[float]],
    a: list[list[float]],
    m: list[list[float]],
    *,
    rowwise: bool,
) -> tuple[Rows, Rows]:
    """Compute one head of Eq. 2 and 3: outputs and attention weights, in the paper's order."""
    scale = len(q[0]) ** -0.5
    plain, subject = [], []  # S and U
    for i in range(ROWS):
        logits = [sum(x * y for x, y in zip(q[i], k[j], strict=True)) for j in range(ROWS)]
        plain.append(softmax([logit * scale for logit in logits]))
        subject.append(softmax([(logit + m[i][j]) * scale for j, logit in enumerate(logits)]))
    outputs, used = [], []
    for i in range(ROWS):
        taken = [a[i][k] * plain[i][k] for k in range(ROWS)]
        if rowwise:  # row i of U gets all that row i gives away
            given = [sum(taken) * subject[i][j] for j in range(ROWS)]
        else:  # the matrix product of Eq. 2
            given = [sum(taken[k] * subject[k][j] for k in range(ROWS)) for j in range(ROWS)]
        weights_ = [plain[i][j] - taken[j] + given[j] for j in range(ROWS)]
        used.append(weights_)
        outputs.append([sum(w * v[j][d] for j, w in enumerate(weights_)) for d in range(len(v[0]))])
    return outputs, used


def reference(model: EmotionCLIP, image: Tensor, patch_weights: Tensor) -> tuple[Tensor, list[list[float]]]:
    """Return the class embedding (D,) of one image and all rows of attention weights."""
    visual, heads = model.backbone.visual, SMALL.vision_heads
    positions = visual.positional_embedding
    grid = F.conv2d(image[None], visual.conv1.weight, stride=16)[0].flatten(1).T + positions[1:]
    cls = visual.class_embedding + positions[0]
    x = visual.ln_pre(torch.stack([*grid, cls, visual.human_embedding]))
    m = eq_4({i for i, w in enumerate(patch_weights.tolist()) if w > 0})
    rows: list[list[float]] = []
    for block in visual.transformer.resblocks:
        attn = block.attn
        qkv = (block.ln_1(x) @ attn.in_proj_weight.T + attn.in_proj_bias).reshape(ROWS, 3, heads, -1)
        a = [[0.0] * ROWS for _ in range(ROWS)]
        if attn.subject_shift is not None:
            a = (1 / (1 + (-attn.subject_shift[OURS][:, OURS]).exp())).tolist()
        merged = []
        for head in range(heads):
            q, k, v = (qkv[:, part, head].tolist() for part in range(3))
            outputs, used = slow_attention(q, k, v, a, m, rowwise=model.config.subject == "saam-rowwise")
            merged.append(torch.tensor(outputs))
            rows += used
        x = x + attn.out_proj(torch.cat(merged, dim=1))
        x = x + block.mlp.c_proj(F.gelu(block.mlp.c_fc(block.ln_2(x))))
    return visual.ln_post(x[PATCHES]) @ visual.proj, rows


def masked_model(subject: str = "saam", **changes: object) -> EmotionCLIP:
    """Return a SAAM model whose A is far from uniform."""
    model = build(subject, **changes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("subject_shift"):
                parameter.copy_(3 * torch.randn_like(parameter))
    return model
