"""Models with formula weights, and their frame encoders: ours and the plain export, its baseline."""

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotion_bench.feeds import Feeds, frame_feeds
from emotion_export.graphs import GraphSource, graph_sources
from emotion_export.onnx import torch_program, write_graph
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.model import PRESETS, EmotionCLIP
from emotion_train.model.attention import Attention
from emotion_train.model.encode import normalise
from emotion_train.model.vision import person_token_bias, subject_log_weights


def formula_model(preset: str, seed: int = 0) -> EmotionCLIP:
    """Return a model whose weights are a function of their names: speed needs no training and no download.

    Activations have about unit variance everywhere, since a CPU computes very small numbers slowly.
    """
    model = EmotionCLIP(PRESETS[preset])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            values = rng.standard_normal(tuple(parameter.shape), np.float32)
            if parameter.ndim >= 2:
                values = values * np.float32(np.prod(parameter.shape[1:]) ** -0.5)
            elif name.endswith("weight"):
                values = 1 + np.float32(0.1) * values
            elif parameter.ndim == 1:
                values = np.float32(0.02) * values
            parameter.copy_(torch.from_numpy(np.asarray(values)))
    return model.eval().requires_grad_(requires_grad=False)


class PlainFrameEncoder(nn.Module):
    """The model as one would export it without optimising for speed: an image and a mask per person.

    All tokens of all people go through all blocks, with an attention mask. It is the same function as the
    frame encoder of a bundle, with the same weights.
    """

    def __init__(self, model: EmotionCLIP) -> None:
        super().__init__()
        self.vision = model.backbone.visual
        self.patch = model.config.preprocess.patch

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """(P, 3, S, S) float32 normalised, (P, S, S) float32 in {0, 1} -> (P, D) float32."""
        vision = self.vision
        weights = F.avg_pool2d(masks.unsqueeze(1), self.patch).flatten(1)  # (P, G)
        grid = vision.conv1(images) if vision.stem is None else vision.stem(images)
        patches = grid.flatten(2).transpose(1, 2) + vision.positional_embedding[1:]  # (P, G, width)
        cls = (vision.class_embedding + vision.positional_embedding[0]).expand(patches.shape[0], 1, -1)
        prompt = (weights @ vision.positional_embedding[1:]).unsqueeze(1)
        x = vision.ln_pre(torch.cat([cls, patches, prompt], dim=1))  # (P, L, width), L = G + 2
        for block in vision.transformer.blocks():
            query, key, value = block.attn.project(block.ln_1(x))
            rows = F.scaled_dot_product_attention(query, key, value, self._logits(block.attn, weights))
            x = x + block.attn.out_proj(rows.transpose(1, 2).flatten(2))
            x = x + block.mlp(block.ln_2(x))
        embeddings: Tensor = vision.ln_post(x[:, 0]) @ vision.proj
        return embeddings

    def _logits(self, attention: Attention, weights: Tensor) -> Tensor | None:
        """Return what is added to the attention logits, (P or 1, heads or 1, L, L), or None."""
        added = None
        if attention.subject_gain is not None:
            bias = person_token_bias(subject_log_weights(weights))  # (P, 1, L, L)
            added = attention.subject_gain.view(-1, 1, 1) * bias
        if self.vision.subject == "shared":  # patches see patches only
            length = weights.shape[1] + 2
            hidden = torch.zeros(length, length)
            hidden[1:-1, [0, -1]] = -torch.inf
            added = hidden[None, None] if added is None else added + hidden
        return added


def plain_feeds(spec: PreprocessSpec, ours: Feeds) -> Feeds:
    """Return inputs of a bundle's frame encoder as those of the plain export."""
    side, covered = spec.size // spec.patch, ours["patch_weights"]
    masks = covered.reshape(-1, side, side).repeat(spec.patch, axis=1).repeat(spec.patch, axis=2)
    pixels = normalise(torch.from_numpy(ours["images"]), spec).numpy()[ours["frame_index"]]
    return {"images": pixels, "masks": masks}


def export_both(model: EmotionCLIP, folder: Path) -> tuple[Path, Path]:
    """Export the frame encoder into a new folder: as a bundle has it, and plain.

    The plain one is what `torch.onnx.export` writes, with a free number of people.
    """
    folder.mkdir(parents=True)
    ours, plain = folder / "ours.onnx", folder / "plain.onnx"
    source = graph_sources(model)[0]
    write_graph(source, ours)
    spec = model.config.preprocess
    feeds = plain_feeds(spec, frame_feeds(spec, 3))
    inputs = {name: torch.from_numpy(value) for name, value in feeds.items()}
    dynamic = dict.fromkeys((*inputs, source.output), "P")
    other = GraphSource(source.name, PlainFrameEncoder(model).eval(), inputs, source.output, dynamic)
    torch_program(other).save(str(plain), external_data=False)
    return ours, plain
