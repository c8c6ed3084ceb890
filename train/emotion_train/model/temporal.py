"""Temporal encoder: from the embeddings of a clip's frames to one feature."""

from torch import Tensor, nn
from torch.nn import functional as F

from emotion_train.model.attention import Attention
from emotion_train.model.config import ModelConfig

DROPOUT = 0.1


class PostNormLayer(nn.Module):
    """`nn.TransformerEncoderLayer` with GELU, without its fast path, which cannot be exported."""

    def __init__(self, width: int, heads: int, ff: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, dropout=DROPOUT)
        self.linear1 = nn.Linear(width, ff)
        self.linear2 = nn.Linear(ff, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(DROPOUT)
        nn.init.xavier_uniform_(self.self_attn.in_proj_weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        attended = self.self_attn.attend(*self.self_attn.project(x))
        x = self.norm1(x + self.dropout(self.self_attn.out_proj(attended)))
        hidden = self.dropout(F.gelu(self.linear1(x)))
        out: Tensor = self.norm2(x + self.dropout(self.linear2(hidden)))
        return out


class PostNormLayers(nn.Module):
    """The layers of the temporal encoder and the final LayerNorm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            PostNormLayer(config.embed_dim, config.temporal_heads, config.temporal_ff)
            for _ in range(config.temporal_layers)
        )
        self.norm = nn.LayerNorm(config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.norm(x)
        return out


class MeanPooling(nn.Module):
    """The mean over time; it has no parameters (paper Table 3, last row)."""

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map (B, T, D) to (B, D)."""
        return embeddings.mean(dim=1)


class TemporalConv(nn.Module):
    """`mean_t(gelu(conv(x)) + x)` with a depthwise convolution over three frames."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.embed_dim
        self.conv = nn.Conv1d(width, width, 3, padding=1, groups=width)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map (B, T, D), oldest frame first, to (B, D)."""
        convolved = self.conv(embeddings.transpose(1, 2)).transpose(1, 2)
        return (F.gelu(convolved) + embeddings).mean(dim=1)


def temporal_encoder(config: ModelConfig) -> nn.Module:
    """Build the temporal encoder that the configuration names."""
    match config.temporal:
        case "mean":
            return MeanPooling()
        case "conv":
            return TemporalConv(config)
        case _:
            return TemporalEncoder(config)


class TemporalEncoder(nn.Module):
    """`mean_t(layers(x + position) + x)`; the learned positions fix T."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.frame_position_embedding = nn.Embedding(config.clip_frames, config.embed_dim)
        self.fusion_layer = PostNormLayers(config)
        nn.init.normal_(self.frame_position_embedding.weight, std=0.02)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map (B, T, D), oldest frame first, to (B, D)."""
        encoded = self.fusion_layer(embeddings + self.frame_position_embedding.weight)
        out: Tensor = (encoded + embeddings).mean(dim=1)
        return out
