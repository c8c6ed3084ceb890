"""Frame encoder: images and the people in them -> one embedding per person.

Source: paper Sec. 3.3; the vision transformer is CLIP's. Shapes: F images, P people, G patches, L = G + 2
    tokens.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotion_train.model.attention import Attention
from emotion_train.model.config import MASKED, ModelConfig
from emotion_train.model.stem import ConvStem
from emotion_train.model.transformer import Block, Transformer

# An uncovered patch keeps this weight: attention prefers the subject and still sees the rest of the scene.
SUBJECT_EPSILON = 0.02


def subject_log_weights(patch_weights: Tensor) -> Tensor:
    """Return `log(w + 0.02)` of patch weights (P, G) in [0, 1]; 0 for a person who covers no patch.

    Without this exception an empty subject would push attention away from every patch.
    """
    covers_any = patch_weights.sum(dim=1, keepdim=True) > 0
    return torch.where(
        covers_any, torch.log(patch_weights + SUBJECT_EPSILON), torch.zeros_like(patch_weights)
    )


def person_token_bias(log_weights: Tensor) -> Tensor:
    """Expand log weights (P, G) to an attention bias (P, 1, L, L) for the tokens [cls, patches, hmn].

    Only the rows of the person's own tokens, cls and hmn, prefer the covered patches; rows of patches are 0.
    """
    person_row = F.pad(log_weights, (1, 1))[:, None, None]  # (P, 1, 1, L)
    patch_rows = torch.zeros_like(person_row).expand(-1, -1, log_weights.shape[1], -1)
    return torch.cat([person_row, patch_rows, person_row], dim=2)


def saam_mask(patch_weights: Tensor) -> Tensor:
    """Return M of Eq. 4 for the tokens [cls, patches, hmn].

    hmn and a patch see each other only where the patch shows some of the subject, and hmn never sees cls;
    everything else is visible. Without a subject in the image hmn sees only itself.

    Args:
        patch_weights: (P, G) in [0, 1].

    Returns:
        (P, 1, L, L) of 0 (visible) and -inf (hidden).
    """
    hidden = torch.where(patch_weights > 0, 0.0, -torch.inf)  # (P, G)
    patch_rows = F.pad(hidden.unsqueeze(2), (hidden.shape[1] + 1, 0))  # (P, G, L): their last column is hmn
    cls_row = torch.zeros_like(patch_rows[:, :1])
    human_row = F.pad(F.pad(hidden, (1, 0), value=-torch.inf), (0, 1))[:, None]  # (P, 1, L)
    return torch.cat([cls_row, patch_rows, human_row], dim=1)[:, None]


class VisionTransformer(nn.Module):
    """CLIP's vision transformer; the fraction of each patch that a person covers selects the subject."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.vision_width
        self.subject = config.subject
        self.subject_bias = config.subject_bias
        self.stem = ConvStem(width, config.stem_channels) if config.stem == "conv" else None
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
            activation=config.activation,
        )
        if config.subject in MASKED:
            # The paper does not say how its hmn token is initialised; here it is learned, and only the masks
            # show where the person is.
            self.human_embedding = nn.Parameter(scale * torch.randn(width))
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, config.embed_dim))

    def forward(self, images: Tensor, frame_index: Tensor, patch_weights: Tensor) -> Tensor:
        """Encode people.

        Args:
            images: (F, 3, S, S) float32, normalised.
            frame_index: (P,) int64, the image that shows each person.
            patch_weights: (P, G) float32 in [0, 1].

        Returns:
            (P, D).
        """
        patches = self._embed_patches(images)
        if self.subject == "none":
            cls = self._run(self._class_tokens(patches.shape[0]), patches)
            return self._embed(cls).index_select(0, frame_index)
        if self.subject in MASKED:
            person_patches = patches.index_select(0, frame_index)  # (P, G, width)
            cls = self._class_tokens(person_patches.shape[0])
            human = self.human_embedding.expand(person_patches.shape[0], 1, -1)
            return self._embed(self._run(cls, person_patches, human, saam_mask(patch_weights)))
        # SAP: the prompt is the sum of the positional embeddings of the covered patches, as in the released
        # weights; it has no position of its own.
        prompt = (patch_weights @ self.positional_embedding[1:]).unsqueeze(1)  # (P, 1, width)
        log_weights = subject_log_weights(patch_weights) if self.subject_bias else None
        if self.subject == "shared":
            return self._embed(self._run_shared(patches, prompt, frame_index, log_weights))
        person_patches = patches.index_select(0, frame_index)  # (P, G, width)
        subject = None if log_weights is None else person_token_bias(log_weights)
        return self._embed(self._run(self._class_tokens(prompt.shape[0]), person_patches, prompt, subject))

    def _embed_patches(self, images: Tensor) -> Tensor:
        grid = self.conv1(images) if self.stem is None else self.stem(images)  # (F, width, h, w)
        tokens: Tensor = grid.flatten(2).transpose(1, 2) + self.positional_embedding[1:]  # (F, G, width)
        return tokens

    def _class_tokens(self, count: int) -> Tensor:
        """Return class tokens (count, 1, width)."""
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
        """Run the blocks on one sequence per person, in which all tokens see all tokens.

        Args:
            cls: (N, 1, width).
            patches: (N, G, width).
            human: The hmn token (N, 1, width), or None for plain CLIP.
            subject: (N, 1, L, L), as in `Attention.attend`.

        Returns:
            The class tokens, (N, width).
        """
        x = self.ln_pre(torch.cat([cls, patches] if human is None else [cls, patches, human], dim=1))
        *blocks, last = self.transformer.blocks()
        for block in blocks:
            x = block(x, subject=subject)
        out: Tensor = last(x, queries=1, subject=subject)[:, 0]  # no other token is used
        return out

    def _run_shared(
        self, patches: Tensor, prompt: Tensor, frame_index: Tensor, log_weights: Tensor | None
    ) -> Tensor:
        """Run the blocks with patches that see only patches, so that they are encoded once per image.

        A person then costs two tokens, [cls, prompt], which see their image's patches and each other. All
        2 * P + F * G tokens pass through the weights as one matrix, which is faster than two small products.

        Args:
            patches: (F, G, width).
            prompt: (P, 1, width).
            frame_index: (P,) int64.
            log_weights: (P, G), or None without the subject bias.

        Returns:
            The class tokens, (P, width).
        """
        patch_count = patches.shape[1]
        person_rows = 2 * prompt.shape[0]  # these come first
        people = torch.cat([self._class_tokens(prompt.shape[0]), prompt], dim=1)  # (P, 2, width)
        rows = self.ln_pre(_as_rows(people, patches))
        subject = None
        if log_weights is not None:
            subject = F.pad(log_weights, (0, 2))[:, None, None]  # (P, 1, 1, G + 2)

        def split(attn: Attention, projected: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
            """Split projections into those of people (P, heads, 2, d) and of patches (F, heads, G, d)."""
            size = projected.shape[2]
            return (
                attn.split_heads(projected[:, :person_rows].reshape(-1, 2, size)),
                attn.split_heads(projected[:, person_rows:].reshape(-1, patch_count, size)),
            )

        def visible(of_people: Tensor, of_patches: Tensor) -> Tensor:
            """Return the keys or values that people see: their image's patches and their own two tokens."""
            return torch.cat([of_patches.index_select(0, frame_index), of_people], dim=2)

        def all_tokens(block: Block, rows: Tensor) -> Tensor:
            attn = block.attn
            (query, *of_people), of_patches = split(attn, attn.project_tokens(block.ln_1(rows)))
            key, value = map(visible, of_people, of_patches[1:])
            people = attn.attend(query, key, value, subject=subject)
            return block.add_residuals(rows, _as_rows(people, attn.attend(*of_patches)))

        def class_tokens(block: Block, rows: Tensor) -> Tensor:
            """Compute only the class tokens, the first of each person: the last block feeds nothing else."""
            attn, normal = block.attn, block.ln_1(rows)
            of_classes = attn.project_tokens(normal[:, :person_rows:2], parts=slice(0, 1))  # (1, P, width)
            (query,) = attn.split_heads(of_classes.transpose(0, 1))
            key, value = map(visible, *split(attn, attn.project_tokens(normal, parts=slice(1, 3))))
            attended = attn.attend(query, key, value, subject=subject)  # (P, 1, width)
            return block.add_residuals(rows[:, :person_rows:2], attended.transpose(0, 1))

        *blocks, last = self.transformer.blocks()
        for block in blocks:
            rows = block.maybe_recompute(partial(all_tokens, block), rows)
        return last.maybe_recompute(partial(class_tokens, last), rows)[0]


def _as_rows(people: Tensor, patches: Tensor) -> Tensor:
    """Concatenate (P, 2, width) and (F, G, width) to (1, 2 * P + F * G, width).

    Three dimensions, because ONNX Runtime fuses a product of two-dimensional matrices with the bias that
    follows, and has no integer kernel for the fused operation.
    """
    return torch.cat([people.flatten(0, 1), patches.flatten(0, 1)])[None]
