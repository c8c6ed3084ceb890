"""Measure what flips right predictions of a model: tilt, distance, blur, boxes, light, covered faces.

    python benchmarks/bench_conditions.py --data ../shared                        # the shipped bundle
    python benchmarks/bench_conditions.py --data ../shared --bundle runs/x/bundle --faces 800
    python benchmarks/bench_conditions.py --data ../shared --checkpoint runs/x/checkpoint.pt --faces 800

Choose between models on the validation split, which is the default; --split test is for the published
numbers. Everything is rendered from the original pixels of faces with votes (`data/fer2013_plus.npz`) and
cut out as the runtime does it, so a run with the same arguments gives the same numbers. 800 faces take about
three minutes on one core. A checkpoint gets a head that is fitted here, on training faces.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

from emotion_bench.accuracy import Result
from emotion_bench.candidates import Candidate, of_bundle, of_checkpoint
from emotion_bench.condition_results import measure, page
from emotion_bench.conditions import CONDITIONS
from emotion_bench.report import report
from emotion_train.scenes.faces import FACES_FILE, load_faces
from emotion_train.scenes.views import HEAD_PX

SEED = 2022


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    args = parse_args(argv)
    path = args.out / "conditions.json" if args.out else None
    return report("bench_conditions", path, partial(run, args), page)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="bench_conditions", description=__doc__.splitlines()[0])
    add = parser.add_argument
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--bundle", default="nano", help="bundle name or folder (default nano)")
    model.add_argument("--checkpoint", type=Path, help="checkpoint of emotion-train pretrain; needs torch")
    add("--data", type=Path, required=True, help=f"folder with {FACES_FILE.as_posix()}")
    add("--split", choices=("val", "test"), default="val", help="split of the faces (default val)")
    add("--faces", type=int, help="number of faces, chosen at random but always the same (default: all)")
    add(
        "--votes",
        type=float,
        default=0.75,
        help="--checkpoint: weight of votes (default 0.75)",
    )
    add("--train-faces", type=int, default=6000, help="--checkpoint: number of training faces (default 6000)")
    add("--out", type=Path, help="folder of conditions.json and conditions.md (default: print only)")
    args = parser.parse_args(argv)
    if args.faces is not None and args.faces < 16:
        parser.error("expected --faces of 16 or more")
    return args


def run(args: argparse.Namespace) -> Result:
    """Run all measurements and return the content of conditions.json."""
    faces = load_faces(args.data / FACES_FILE, args.split)
    if args.faces:
        faces = faces.take(np.random.default_rng(SEED).permutation(len(faces.labels))[: args.faces])
    candidate = opened(args)
    result: Result = {
        "name": candidate.name,
        "split": args.split,
        "faces": len(faces.labels),
        "head_px": HEAD_PX,
    }
    return result | measure(candidate, faces, CONDITIONS, seed=SEED)


def opened(args: argparse.Namespace) -> Candidate:
    """Open the model that the command line names."""
    if args.checkpoint is None:
        return of_bundle(args.bundle)
    return of_checkpoint(
        args.checkpoint,
        args.data,
        train_faces=args.train_faces,
        tune_faces=1000,
        votes=args.votes,
        seed=SEED,
    )


if __name__ == "__main__":
    sys.exit(main())
