"""CLIP's text tower and, with the vision tower, its backbone."""

import torch
from torch import Tensor, nn

from emotion_train.model.config import ModelConfig
from emotion_train.model.transformer import Transformer
from emotion_train.model.vision import VisionTransformer


class Backbone(nn.Module):
    """The vision tower and the text tower, with the parameter names of released checkpoints."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.visual = VisionTransformer(config)
        self.transformer = Transformer(
            config.text_width, config.text_layers, config.text_heads, activation=config.activation
        )
        self.token_embedding = nn.Embedding(config.text_vocab, config.text_width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(config.text_context, config.text_width))
        self.ln_final = nn.LayerNorm(config.text_width)
        self.text_projection = nn.Parameter(
            config.text_width**-0.5 * torch.randn(config.text_width, config.embed_dim)
        )
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Encode tokens (B, context) int64 to (B, D), the output at the end-of-text token.

        The end-of-text token is the one with the largest id.
        """
        end = tokens.argmax(dim=-1)
        if not torch.compiler.is_compiling():
            # Attention is causal, so padding after the longest sentence has no effect and is not computed.
            tokens = tokens[:, : int(end.max()) + 1]
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]  # (B, L, width)
        for block in self.transformer.blocks():
            x = block(x, causal=True)
        at_end = x.gather(1, end.view(-1, 1, 1).expand(-1, 1, x.shape[2])).squeeze(1)  # (B, width)
        features: Tensor = self.ln_final(at_end) @ self.text_projection
        return features
