"""One of several processes that `torchrun` starts for test_distributed.py: steps on its share of the rows.

argv: folder to write losses and gradients to. With several chunks, the loss is computed in pieces of one row,
too.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from small_model import build
from test_objective import FP32, some_pairs, without_dropout
from test_supervised_step import WEIGHT, classifier_of_seven, supervised_pairs

from emotion_train import losses
from emotion_train.batch import ClipTextBatch
from emotion_train.training.objective import ContrastiveObjective, Execution
from emotion_train.training.parallel import World, in_any_process, joined_world

FIRST_ROWS = 4  # of the first process; the other has 3


STEPS = {"whole": (1, False), "chunks": (2, False), "supervised": (2, True)}


def main() -> None:
    out = Path(sys.argv[1])
    with joined_world() as world:
        for name, (chunks, supervised) in STEPS.items():
            if chunks > 1:
                losses.PIECE_ROWS = 1
            torch.save(step(world, chunks, supervised=supervised), out / f"{name}.{world.rank}")
        ends = [in_any_process(world.rank in asked, world) for asked in ((), (0,), (1,))]
        torch.save(ends, out / f"ends.{world.rank}")


def step(world: World, chunks: int, *, supervised: bool) -> dict[str, Any]:
    model = without_dropout(build("sap"))
    classifier = classifier_of_seven() if supervised else None
    encoder = Execution(world=world, accumulate=chunks).encoder(model, classifier).train()
    weight, pairs = (WEIGHT, supervised_pairs()) if supervised else (0.0, some_pairs())
    objective = ContrastiveObjective(encoder, 2.0, "paper", world, chunks, supervised=weight)
    loss, _ = objective(_own_rows(pairs, world.rank), FP32, 0)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    if classifier is not None:
        gradients |= {f"classifier.{name}": p.grad for name, p in classifier.named_parameters()}
    return {"loss": loss, "gradients": gradients}


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
