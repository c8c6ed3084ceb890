"""Frame encoder: pictures and the persons in them -> one embedding a person.

Source: paper Sec. 3.3; the vision transformer is CLIP's. Shapes: F pictures, P persons, G patches.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotion_train.model.attention import Attention, Block, Transformer
from emotion_train.model.config import ModelConfig
from emotion_train.model.stem import ConvStem

# An uncovered patch keeps this weight: attention leans to the subject and still sees the scene.
SUBJECT_EPSILON = 0.02


def subject_log_weights(patch_weights: Tensor) -> Tensor:
    """`log(w + 0.02)` of (P, G) weights in [0, 1]; 0 for a person of whom nothing is in the picture.

    Without that exception an empty subject would push attention off every patch.
    """
    found = patch_weights.sum(dim=1, keepdim=True) > 0
    return torch.where(found, torch.log(patch_weights + SUBJECT_EPSILON), torch.zeros_like(patch_weights))


def own_rows(log_weights: Tensor) -> Tensor:
    """Log weights (P, G) as (P, 1, L, L) for tokens [cls, patches, hmn].

    Only the person's own rows, first and last, lean towards the covered patches.
    """
    own = F.pad(log_weights, (1, 1))[:, None, None]  # (P, 1, 1, L)
    others = torch.zeros_like(own).expand(-1, -1, log_weights.shape[1], -1)
    return torch.cat([own, others, own], dim=2)


def saam_mask(patch_weights: Tensor) -> Tensor:
    """M of Eq. 4 for tokens [cls, patches, hmn]: (P, G) weights -> (P, 1, L, L) of 0 and -inf.

    hmn and a patch see each other only where the patch holds some of the subject, and hmn never looks at
    cls; all else is free. With nobody in the picture hmn sees only itself.
    """
    closed = torch.where(patch_weights > 0, 0.0, -torch.inf)  # (P, G)
    of_patches = F.pad(closed.unsqueeze(2), (closed.shape[1] + 1, 0))  # (P, G, L): their last column is hmn
    of_cls = torch.zeros_like(of_patches[:, :1])
    of_human = F.pad(F.pad(closed, (1, 0), value=-torch.inf), (0, 1))[:, None]  # (P, 1, L)
    return torch.cat([of_cls, of_patches, of_human], dim=1)[:, None]


class VisionTransformer(nn.Module):
    """CLIP's vision transformer, told who is meant by the covered fraction of each patch."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.vision_width
        self.subject = config.subject
        self.subject_bias = config.subject_bias
        self.stem = ConvStem(width) if config.stem == "conv" else None
        if self.stem is None:
            patch = config.preprocess.patch
            self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        scale = width**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(1 + config.preprocess.patches, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(
            width,
            config.vision_layers,
            config.vision_heads,
            subject_bias=config.subject_bias,
            saam=config.saam,
        )
        if config.subject == "saam":
            # The paper leaves open what its hmn token starts as; here it is learned, and only the masks say
            # where the person is.
            self.human_embedding = nn.Parameter(scale * torch.randn(width))
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, config.embed_dim))

    def forward(self, images: Tensor, frame_index: Tensor, patch_weights: Tensor) -> Tensor:
        """Encode images (F, 3, S, S), frame_index (P,) int64, patch_weights (P, G) -> (P, D)."""
        patches = self._embed_patches(images)
        if self.subject == "none":
            cls = self._run(self._class_tokens(patches.shape[0]), patches)
            return self._embed(cls).index_select(0, frame_index)
        if self.subject == "saam":
            of_persons = patches.index_select(0, frame_index)  # (P, G, width)
            cls = self._class_tokens(of_persons.shape[0])
            human = self.human_embedding.expand(of_persons.shape[0], 1, -1)
            return self._embed(self._run(cls, of_persons, human, saam_mask(patch_weights)))
        # SAP: the prompt is the sum of the positional embeddings of the covered patches, as released weights
        # have it; it gets no position of its own.
        prompt = (patch_weights @ self.positional_embedding[1:]).unsqueeze(1)  # (P, 1, width)
        log_weights = subject_log_weights(patch_weights) if self.subject_bias else None
        if self.subject == "shared":
            return self._embed(self._run_shared(patches, prompt, frame_index, log_weights))
        of_persons = patches.index_select(0, frame_index)  # (P, G, width)
        subject = None if log_weights is None else own_rows(log_weights)
        return self._embed(self._run(self._class_tokens(prompt.shape[0]), of_persons, prompt, subject))

    def _embed_patches(self, images: Tensor) -> Tensor:
        grid = self.conv1(images) if self.stem is None else self.stem(images)  # (F, width, h, w)
        tokens: Tensor = grid.flatten(2).transpose(1, 2) + self.positional_embedding[1:]  # (F, G, width)
        return tokens

    def _class_tokens(self, count: int) -> Tensor:
        """(count, 1, width)."""
        return (self.class_embedding + self.positional_embedding[0]).expand(count, 1, -1)

    def _embed(self, cls: Tensor) -> Tensor:
        embedding: Tensor = self.ln_post(cls) @ self.proj
        return embedding

    def _run(
        self,
        cls: Tensor,
        patches: Tensor,
        human: Tensor | None = None,
        subject: Tensor | None = None,
    ) -> Tensor:
        """(N, 1, width), (N, G, width), (N, 1, width) -> class rows (N, width); all tokens see all tokens.

        subject: (N, 1, L, L), as in `Attention.attend`.
        """
        x = self.ln_pre(torch.cat([cls, patches] if human is None else [cls, patches, human], dim=1))
        *blocks, last = self.transformer.blocks()
        for block in blocks:
            x = block(x, subject=subject)
        out: Tensor = last(x, queries=1, subject=subject)[:, 0]  # nothing else is read after the last block
        return out

    def _run_shared(
        self, patches: Tensor, prompt: Tensor, frame_index: Tensor, log_weights: Tensor | None
    ) -> Tensor:
        """(F, G, width), (P, 1, width) -> class rows (P, width): patches see patches only.

        So they are encoded once a picture, and a person costs two rows, [cls, prompt], that see their
        picture's patches and each other. All rows, 2 * P + F * G, pass through the weights as one matrix: two
        small products cost a processor more than one.
        """
        grid = patches.shape[1]
        own = 2 * prompt.shape[0]  # rows of persons, which come first
        persons = torch.cat([self._class_tokens(prompt.shape[0]), prompt], dim=1)  # (P, 2, width)
        rows = self.ln_pre(_as_rows(persons, patches))
        subject = None
        if log_weights is not None:
            subject = F.pad(log_weights, (0, 2))[:, None, None]  # (P, 1, 1, G + 2)

        def split(attn: Attention, projected: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
            """What was projected, for persons (P, heads, 2, d) and for patches (F, heads, G, d)."""
            size = projected.shape[2]
            return (
                attn.split(projected[:, :own].reshape(-1, 2, size)),
                attn.split(projected[:, own:].reshape(-1, grid, size)),
            )

        def seen(of_person: Tensor, of_patches: Tensor) -> Tensor:
            """Keys or values that persons look at: their picture's patches and their own two rows."""
            return torch.cat([of_patches.index_select(0, frame_index), of_person], dim=2)

        def whole(block: Block, rows: Tensor) -> Tensor:
            attn = block.attn
            (query, *others), of_patches = split(attn, attn.project_rows(block.ln_1(rows)))
            key, value = map(seen, others, of_patches[1:])
            persons = attn.attend(query, key, value, subject=subject)
            return block.add(rows, _as_rows(persons, attn.attend(*of_patches)))

        def classes(block: Block, rows: Tensor) -> Tensor:
            """Only the class rows, the first of each person: nothing else is read after the last block."""
            attn, normal = block.attn, block.ln_1(rows)
            of_classes = attn.project_rows(normal[:, :own:2], parts=slice(0, 1))  # (1, P, width)
            (query,) = attn.split(of_classes.transpose(0, 1))
            key, value = map(seen, *split(attn, attn.project_rows(normal, parts=slice(1, 3))))
            attended = attn.attend(query, key, value, subject=subject)  # (P, 1, width)
            return block.add(rows[:, :own:2], attended.transpose(0, 1))

        *blocks, last = self.transformer.blocks()
        for block in blocks:
            rows = block.in_training(partial(whole, block), rows)
        return last.in_training(partial(classes, last), rows)[0]


def _as_rows(persons: Tensor, patches: Tensor) -> Tensor:
    """(P, 2, width) and (F, G, width) -> (1, 2 * P + F * G, width).

    Three dimensions, because ONNX Runtime joins a product of two with the bias that follows, and then has no
    integer kernel for it.
    """
    return torch.cat([persons.flatten(0, 1), patches.flatten(0, 1)])[None]
