"""One of several processes that `torchrun` starts for test_distributed.py: a step on its share of the rows.

argv: file to write loss and gradients to, number of pieces, "supervised" for a supervised term as well. With
several pieces, the loss is computed in pieces of one row, too.
"""

import sys
from dataclasses import replace

import torch
from small_model import build
from test_objective import FP32, some_pairs, without_dropout
from test_supervised_step import WEIGHT, classifier_of_seven, supervised_pairs

from emotion_train import losses
from emotion_train.batch import ClipTextBatch
from emotion_train.training.objective import ContrastiveObjective, Execution
from emotion_train.training.parallel import joined_world

FIRST_ROWS = 4  # of the first process; the other has 3


def main() -> None:
    out, chunks, supervised = sys.argv[1], int(sys.argv[2]), "supervised" in sys.argv[3:]
    if chunks > 1:
        losses.PIECE_ROWS = 1
    with joined_world() as world:
        model = without_dropout(build("sap"))
        classifier = classifier_of_seven() if supervised else None
        encoder = Execution(world=world, accumulate=chunks).encoder(model, classifier).train()
        weight, pairs = (WEIGHT, supervised_pairs()) if supervised else (0.0, some_pairs())
        objective = ContrastiveObjective(encoder, 2.0, "paper", world, chunks, supervised=weight)
        loss, figures = objective(_own_rows(pairs, world.rank), FP32, 0)
        gradients = {name: p.grad for name, p in model.named_parameters()}
        if classifier is not None:
            gradients |= {f"classifier.{name}": p.grad for name, p in classifier.named_parameters()}
        torch.save({"loss": loss, "figures": figures, "gradients": gradients}, f"{out}.{world.rank}")


def _own_rows(pairs: ClipTextBatch, rank: int) -> ClipTextBatch:
    rows = slice(0, FIRST_ROWS) if rank == 0 else slice(FIRST_ROWS, None)
    return replace(
        pairs,
        clip_index=pairs.clip_index[rows],
        patch_weights=pairs.patch_weights[rows],
        text=pairs.text[rows],
        sentiment=pairs.sentiment[rows],
        targets=None if pairs.targets is None else pairs.targets[rows],
    )


if __name__ == "__main__":
    main()
