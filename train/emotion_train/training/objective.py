"""A step of contrastive learning whose batch may be split over devices and chunks (paper Sec. 3.4).

The loss compares every clip with every sentence, so it cannot be averaged over parts of a batch. Each process
encodes its own rows, in several chunks where memory requires it. It compares them with the joined features
of all processes, the parts of the processes are added up, and the gradient of their sum with respect to the
own features is carried back chunk by chunk (gradient caching, Gao et al. 2021). The result is that of one
process with the whole batch.

A batch goes this way: `ClipTextBatch`, split into chunks -> `PairEncoder` -> `Encoded` -> loss ->
`FeatureGradients` -> gradients of the parameters.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import record_function

from emotion_runtime.errors import EmotionError
from emotion_train.batch import ClipTextBatch
from emotion_train.losses import KLDirection, LossGradients, PiecewiseLoss
from emotion_train.model import EmotionCLIP
from emotion_train.model.encode import encode_clips
from emotion_train.training.parallel import World, gather_rows, sum_over_processes, without_averaging, wrap
from emotion_train.training.precision import Precision

_CHUNK_SEED = 7_919  # a stride between chunks that no step's own seed takes

SpanFactory = Callable[[str], AbstractContextManager[Any]]


class Encoded(NamedTuple):
    """Features of B clips and their sentences, in one space.

    Attributes:
        video: (B, D) float32, L2-normalised.
        text: (B, D) float32, L2-normalised.
        scale: Scalar, 1/tau of the contrastive loss.
        logits: (B, C) float32 of the classifier; None without one.
    """

    video: Tensor
    text: Tensor
    scale: Tensor
    logits: Tensor | None = None

    @staticmethod
    def join(chunks: Sequence["Encoded"]) -> "Encoded":
        """Return the features of all chunks as those of one batch."""
        logits = [chunk.logits for chunk in chunks if chunk.logits is not None]
        return Encoded(
            torch.cat([chunk.video for chunk in chunks]),
            torch.cat([chunk.text for chunk in chunks]),
            chunks[0].scale,
            torch.cat(logits) if logits else None,
        )


class FeatureGradients(NamedTuple):
    """Gradients of the loss with respect to the fields of `Encoded`; None where there is none."""

    video: Tensor
    text: Tensor
    scale: Tensor | None
    logits: Tensor | None = None

    def of_rows(self, rows: slice, *, with_scale: bool) -> "FeatureGradients":
        """Return the gradients of some rows. The scale is shared by all rows: one chunk carries it."""
        return FeatureGradients(
            self.video[rows],
            self.text[rows],
            self.scale if with_scale else None,
            None if self.logits is None else self.logits[rows],
        )


class PairEncoder(nn.Module):
    """The module that several processes share: it encodes clips and sentences into one space.

    Args:
        model: The model to train.
        freeze_batchnorm: Let BatchNorm use its running statistics, so that the features of a row do not
            depend on the rows that are encoded with it.
        classifier: Maps video features (B, D) to logits (B, C), for the supervised term.
    """

    def __init__(
        self, model: EmotionCLIP, *, freeze_batchnorm: bool = False, classifier: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.freeze_batchnorm = freeze_batchnorm
        self.classifier = classifier

    def train(self, mode: bool = True) -> "PairEncoder":
        """Set the mode as `nn.Module` does, but leave frozen BatchNorm layers in eval mode."""
        super().train(mode)
        for module in self.model.modules():
            learns = any(p.requires_grad for p in module.parameters(recurse=False))
            if isinstance(module, nn.BatchNorm2d) and (self.freeze_batchnorm or not learns):
                module.eval()
        return self

    def forward(self, images: Tensor, clip_index: Tensor, patch_weights: Tensor, text: Tensor) -> Encoded:
        """Encode a batch; the arguments are those of `ClipTextBatch`."""
        video = F.normalize(encode_clips(self.model, images, patch_weights, clip_index), dim=-1)
        features = text if text.is_floating_point() else self.model.encode_text(text)
        logits = None if self.classifier is None else self.classifier(video).float()
        return Encoded(video, F.normalize(features.float(), dim=-1), self.model.logit_scale.exp(), logits)


@dataclass(frozen=True, slots=True)
class Execution:
    """How a contrastive stage is computed, whatever it learns.

    Attributes:
        world: The processes that train together.
        accumulate: Chunks in which a process encodes its rows.
        compiled: Whether the encoder is compiled.
        freeze_batchnorm: See `PairEncoder`.
    """

    world: World = World()  # noqa: RUF009 - immutable
    accumulate: int = 1
    compiled: bool = False
    freeze_batchnorm: bool = False

    def encoder(self, model: EmotionCLIP, classifier: nn.Module | None = None) -> nn.Module:
        """Return the model's `PairEncoder`, compiled and wrapped for several processes as configured.

        Raises:
            EmotionError: BatchNorm would see only a part of the batch.
        """
        self.check(model)
        encoder: nn.Module = PairEncoder(model, freeze_batchnorm=self.freeze_batchnorm, classifier=classifier)
        if self.compiled:
            encoder.compile()  # in place: the parameters keep their names
        return wrap(encoder, self.world)

    def check(self, model: EmotionCLIP) -> None:
        """Check that a model can be trained in this way.

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
                "only a part of the batch: set freeze_batchnorm = true, or train in one process without "
                "accumulate"
            )


@dataclass(frozen=True, slots=True)
class ContrastiveObjective:
    """Computes the loss of a batch and leaves its gradients in the parameters.

    Attributes:
        encoder: A `PairEncoder`, wrapped or not.
        beta: Strength of the sentiment guidance.
        kl_direction: Direction of the divergence between sentiments.
        world: The processes that train together.
        chunks: Parts in which this process encodes its rows.
        supervised: Weight of the cross-entropy between the encoder's classifier and the batch's targets.
        anchors: (7, D) float32, text directions of the emotions, for the zero-shot accuracy in the log; None
            where the text tower learns, and with it the directions.
        span: Opens a named span around each part of a step: "forward", "loss", "backward". By default
            `torch.profiler` shows them.
    """

    encoder: nn.Module
    beta: float
    kl_direction: KLDirection
    world: World = World()  # noqa: RUF009 - immutable
    chunks: int = 1
    supervised: float = 0.0
    anchors: Tensor | None = None
    span: SpanFactory = record_function

    def __call__(
        self, batch: ClipTextBatch, precision: Precision, seed: int
    ) -> tuple[float, dict[str, float]]:
        """Return the loss of the joined batch and metrics for the log."""
        batch = batch.to(self.world.device)
        parts = batch.split(self.chunks)
        whole = len(parts) == 1
        with torch.set_grad_enabled(whole):  # no graph is kept of several parts: they are encoded again
            encoded = [self._encode(part, precision, seed, index) for index, part in enumerate(parts)]
        joined = Encoded.join(encoded)
        loss, gradients, metrics = self._loss(joined, batch, precision)
        start = 0
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            rows = slice(start, start + len(part))
            # Processes average their gradients once, with the last part.
            with nullcontext() if last else without_averaging(self.encoder):
                features = encoded[0] if whole else self._encode(part, precision, seed, index)
                self._carry_back(features, gradients.of_rows(rows, with_scale=last))
            start = rows.stop
        return loss, metrics | self._zero_shot(joined.video.detach(), batch)

    def _encode(self, part: ClipTextBatch, precision: Precision, seed: int, index: int) -> Encoded:
        # A part that is encoded again must draw the same dropout mask; each process draws its own.
        torch.manual_seed(seed + _CHUNK_SEED * (index + self.world.rank * self.chunks))
        with self.span("forward"), precision.autocast():
            encoded: Encoded = self.encoder(part.images, part.clip_index, part.patch_weights, part.text)
        return encoded

    def _loss(
        self, encoded: Encoded, batch: ClipTextBatch, precision: Precision
    ) -> tuple[float, FeatureGradients, dict[str, float]]:
        """Return the loss of all processes' rows, its gradients by this one's features, and metrics."""
        with self.span("loss"):
            loss, gradients, metrics = self._contrastive_term(encoded, batch.sentiment, precision)
            if not self.supervised:
                return loss, gradients, metrics
            if encoded.logits is None or batch.targets is None:
                raise ValueError("a supervised term needs a classifier, and batches with targets")
            term, by_logits, accuracy = self._supervised_term(encoded.logits, batch.targets, precision)
            return loss + term, gradients._replace(logits=by_logits), metrics | {"supervised": accuracy}

    def _contrastive_term(
        self, encoded: Encoded, sentiment: Tensor, precision: Precision
    ) -> tuple[float, FeatureGradients, dict[str, float]]:
        videos, own = gather_rows(encoded.video.detach(), self.world)
        texts, _ = gather_rows(encoded.text.detach(), self.world)
        sentiments, _ = gather_rows(sentiment, self.world)
        part = PiecewiseLoss(self.beta, self.kl_direction)(
            videos, texts, sentiments, rows=own, scale=encoded.scale, scaled=precision.scaled
        )
        whole = LossGradients(*sum_over_processes(part, self.world))
        # Averaging divides by the number of processes, but each row was encoded by one of them only. The
        # gradient by 1/tau is the same everywhere.
        size = self.world.size
        gradients = FeatureGradients(whole.video[own] * size, whole.text[own] * size, whole.scale)
        metrics = {"retrieval": whole.retrieval.item(), "scale": encoded.scale.item()}
        return whole.loss.item(), gradients, metrics

    def _supervised_term(
        self, logits: Tensor, targets: Tensor, precision: Precision
    ) -> tuple[float, Tensor, float]:
        """Return the weighted cross-entropy of all rows, its gradient by own logits, and own accuracy."""
        leaf = logits.detach().requires_grad_()
        own = self.supervised * F.cross_entropy(leaf, targets, reduction="none")
        everyone, _ = gather_rows(own.detach()[:, None], self.world)
        # Processes may have different numbers of rows, and averaging divides by the number of processes.
        loss = own.sum() * (self.world.size / len(everyone))
        (by_logits,) = torch.autograd.grad(precision.scaled(loss), leaf)
        accuracy = (logits.argmax(-1) == targets.argmax(-1)).float().mean().item()
        return everyone.mean().item(), by_logits, accuracy

    def _carry_back(self, encoded: Encoded, gradients: FeatureGradients) -> None:
        learning = [
            (feature, gradient)
            for feature, gradient in zip(encoded, gradients, strict=True)
            if feature is not None and feature.requires_grad and gradient is not None
        ]
        tensors, by = zip(*learning, strict=True)
        with self.span("backward"):
            torch.autograd.backward(tensors, by)

    def _zero_shot(self, video: Tensor, batch: ClipTextBatch) -> dict[str, float]:
        if self.anchors is None or batch.labels is None:
            return {}
        nearest = (video @ self.anchors.to(video.device).T).argmax(-1)
        return {"zero_shot": (nearest == batch.labels).float().mean().item()}
