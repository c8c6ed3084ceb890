"""A step of contrastive learning whose batch may lie on several devices and in several pieces (Sec. 3.4).

The loss compares every clip with every sentence, so it cannot be averaged over parts of a batch. Here each
process encodes its rows, in `chunks` pieces where memory asks for it; the loss is taken of the joined
features of all, and its gradient with respect to them is carried back piece by piece (cached gradients, Gao
et al. 2021). The result is that of one process with the whole batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError
from emotion_train.batch import ClipTextBatch
from emotion_train.losses import KLDirection, sentiment_guided_contrastive_loss
from emotion_train.model import EmotionCLIP
from emotion_train.model.encode import encode_clips
from emotion_train.training.parallel import World, gather_rows, without_averaging, wrap
from emotion_train.training.precision import Precision

_CHUNK_SEED = 7_919  # apart from the steps' own seeds


class PairEncoder(nn.Module):
    """What is wrapped for several processes: clips and sentences to features of one space.

    freeze_batchnorm: BatchNorm uses its running statistics, so that a row's features do not depend on which
    other rows are encoded with it. classifier: of video features, for a supervised term; None: there is none.
    """

    def __init__(
        self, model: EmotionCLIP, *, freeze_batchnorm: bool = False, classifier: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.freeze_batchnorm = freeze_batchnorm
        self.classifier = classifier

    def train(self, mode: bool = True) -> "PairEncoder":
        """As in `nn.Module`; frozen parts stay in eval mode."""
        super().train(mode)
        for module in self.model.modules():
            learns = any(p.requires_grad for p in module.parameters(recurse=False))
            if isinstance(module, nn.BatchNorm2d) and (self.freeze_batchnorm or not learns):
                module.eval()
        return self

    def forward(
        self, images: Tensor, pictures: Tensor, patch_weights: Tensor, text: Tensor
    ) -> tuple[Tensor, ...]:
        """Video features (B, D), text features (B, D), both float32 and L2-normalised, and 1/tau.

        With a classifier: its logits (B, C) float32 as well. Arguments are as in `ClipTextBatch`.
        """
        video = F.normalize(encode_clips(self.model, images, patch_weights, pictures), dim=-1)
        features = text if text.is_floating_point() else self.model.encode_text(text)
        joint = video, F.normalize(features.float(), dim=-1), self.model.logit_scale.exp()
        return joint if self.classifier is None else (*joint, self.classifier(video).float())


@dataclass(frozen=True, slots=True)
class Execution:
    """How a contrastive stage is computed, whatever it learns; see `PretrainConfig` for all but the world."""

    world: World = World()  # noqa: RUF009 - immutable
    accumulate: int = 1
    compiled: bool = False
    freeze_batchnorm: bool = False

    def encoder(self, model: EmotionCLIP, classifier: nn.Module | None = None) -> nn.Module:
        """The model's `PairEncoder`, compiled and wrapped as asked.

        Raises:
            EmotionError: BatchNorm would see only a part of the batch.

        """
        learns = any(
            isinstance(module, nn.BatchNorm2d) and any(p.requires_grad for p in module.parameters())
            for module in model.modules()
        )
        if learns and not self.freeze_batchnorm and self.world.size * self.accumulate > 1:
            raise EmotionError(
                f"{self.world.size} processes, accumulate {self.accumulate}: the stem's BatchNorm would see "
                "only a part of the batch: set freeze_batchnorm = true, or train in one process and one piece"
            )
        encoder: nn.Module = PairEncoder(model, freeze_batchnorm=self.freeze_batchnorm, classifier=classifier)
        if self.compiled:
            encoder.compile()  # in place: the parameters keep their names
        return wrap(encoder, self.world)


@dataclass(frozen=True, slots=True)
class ContrastiveObjective:
    """Leaves the gradients of a batch in the parameters.

    encoder: a `PairEncoder`, wrapped or not. pairs: from what the loader gives. chunks: pieces in which
    this process encodes its rows. figures: more figures for the log, of this process's features and pairs.
    supervised: weight of the cross-entropy between the encoder's classifier and the pairs' targets.
    """

    encoder: nn.Module
    pairs: Callable[[Any], ClipTextBatch]
    beta: float
    kl_direction: KLDirection
    world: World
    chunks: int = 1
    figures: Callable[[Tensor, ClipTextBatch], dict[str, float]] = lambda _video, _pairs: {}
    supervised: float = 0.0

    def __call__(self, batch: Any, precision: Precision, seed: int) -> tuple[float, dict[str, float]]:
        """The loss of the joined batch, with figures for the log."""
        pairs = self.pairs(batch).to(self.world.device)
        pieces = pairs.split(self.chunks)
        whole = len(pieces) == 1
        with torch.set_grad_enabled(whole):  # of several pieces no graph is kept: they are encoded again
            encoded = [self._encode(piece, precision, seed, number) for number, piece in enumerate(pieces)]
        video, text = (torch.cat([features[i] for features in encoded]) for i in (0, 1))
        loss, gradients, figures = self._joined_loss(video, text, encoded[0][2], pairs.sentiment, precision)
        by_logits = None
        if self.supervised:
            logits = torch.cat([features[3] for features in encoded])
            term, by_logits, more = self._supervised_term(logits, pairs, precision)
            loss, figures = loss + term, figures | more
        start = 0
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            stop = start + len(piece)
            own: tuple[Tensor | None, ...]
            own = (gradients[0][start:stop], gradients[1][start:stop], gradients[2] if last else None)
            if by_logits is not None:
                own = (*own, by_logits[start:stop])
            if last:
                self._carry_back(encoded[0] if whole else self._encode(piece, precision, seed, number), own)
            else:
                with without_averaging(self.encoder):
                    self._carry_back(self._encode(piece, precision, seed, number), own)
            start = stop
        return loss, figures | self.figures(video.detach(), pairs)

    def _encode(
        self, piece: ClipTextBatch, precision: Precision, seed: int, number: int
    ) -> tuple[Tensor, ...]:
        # Dropout must fall alike when a piece is encoded again, and differently in each process.
        torch.manual_seed(seed + _CHUNK_SEED * (number + self.world.rank * self.chunks))
        with precision.autocast():
            features: tuple[Tensor, ...] = self.encoder(
                piece.images, piece.clip_index, piece.patch_weights, piece.text
            )
        return features

    def _joined_loss(
        self, video: Tensor, text: Tensor, scale: Tensor, sentiment: Tensor, precision: Precision
    ) -> tuple[float, tuple[Tensor, Tensor, Tensor], dict[str, float]]:
        """Loss of all processes' rows; its gradients by this one's video and text features and by 1/tau."""
        videos, own = gather_rows(video.detach(), self.world)
        texts, _ = gather_rows(text.detach(), self.world)
        sentiments, _ = gather_rows(sentiment, self.world)
        leaves = [tensor.clone().requires_grad_() for tensor in (videos, texts, scale.detach())]
        loss = sentiment_guided_contrastive_loss(
            leaves[0],
            leaves[1],
            sentiments,
            logit_scale=leaves[2],
            beta=self.beta,
            kl_direction=self.kl_direction,
        )
        by_video, by_text, by_scale = torch.autograd.grad(precision.scaled(loss), leaves)
        # Averaging divides by the number of processes, but each row was encoded by one of them only; the
        # gradient by 1/tau is the same everywhere.
        size = self.world.size
        gradients = (by_video[own] * size, by_text[own] * size, by_scale)
        figures = {"retrieval": retrieval_accuracy(videos, texts), "scale": scale.item()}
        return loss.item(), gradients, figures

    def _supervised_term(
        self, logits: Tensor, pairs: ClipTextBatch, precision: Precision
    ) -> tuple[float, Tensor, dict[str, float]]:
        """The weighted cross-entropy of all rows, its gradient by own logits, and a figure of these."""
        if pairs.targets is None:
            raise ValueError("a supervised term needs pairs with targets")
        leaf = logits.detach().requires_grad_()
        own = self.supervised * F.cross_entropy(leaf, pairs.targets, reduction="none")
        everyone, _ = gather_rows(own.detach()[:, None], self.world)
        # Processes may have different numbers of rows; averaging divides by the number of processes.
        share = own.sum() * (self.world.size / len(everyone))
        (by_logits,) = torch.autograd.grad(precision.scaled(share), leaf)
        right = (logits.argmax(-1) == pairs.targets.argmax(-1)).float().mean().item()
        return everyone.mean().item(), by_logits, {"supervised": right}

    @staticmethod
    def _carry_back(features: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]) -> None:
        learning = [
            (feature, gradient)
            for feature, gradient in zip(features, gradients, strict=True)
            if feature.requires_grad and gradient is not None
        ]
        tensors, by = zip(*learning, strict=True)
        torch.autograd.backward(tensors, by)


@torch.no_grad()
def retrieval_accuracy(video: Tensor, text: Tensor) -> float:
    """Share of clips whose own sentence is the nearest of the batch, and the other way round, averaged.

    video, text: (B, D), L2-normalised.
    """
    similarity = video @ text.T
    own = torch.arange(len(video), device=video.device)
    hits = [(s.argmax(dim=1) == own).float().mean() for s in (similarity, similarity.T)]
    return float(sum(hits) / 2)
