"""Measure the accuracy of a bundle: every number of its model card, on faces never used to train or tune it.

    python benchmarks/bench_accuracy.py --data ../shared --videos ../shared/videos/*.gif   # about 15 minutes
    python benchmarks/bench_accuracy.py --data ../shared --faces 40 --frames 2             # a quick trial
    python benchmarks/bench_accuracy.py --data ../shared --frames 2 --only int8           # after a new export

Everything runs on the bundle's ONNX graphs, as the runtime computes them; nothing of the model is in torch.
The label of a face is the emotion that more than half of ten annotators see; faces without such a majority
count for the calibration error, which compares probabilities with votes. Test sets: scenes (1-4 people, an
ordinary camera), poor_scenes (bad light, tilted and covered faces, camera faults), tight_faces (the aligned
48 px crops themselves), pairs (two people of different emotions), one corruption at a time, views of every
size, sharpness and part inside the frame, scenes of 1, 3 and 8 people, 300 faces through the whole runtime,
and label changes on videos. Written to --out:
accuracy.json, accuracy.md, confusion.png, reliability.png, quality.png.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from emotion_bench import accuracy as measures
from emotion_bench import quality_bins, through_runtime
from emotion_bench.accuracy_page import page
from emotion_bench.accuracy_sets import Plan
from emotion_bench.candidates import of_bundle
from emotion_bench.machine import card
from emotion_bench.predictions import Predictions, Predictor
from emotion_bench.report import report
from emotion_runtime.bundle import load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.names import ReducedPrecision
from emotion_runtime.runtime import EmotionRuntime
from emotion_train.heads import CATEGORIES, ZERO_SHOT
from emotion_train.language.labels import EKMAN
from emotion_train.probing.calibration import confidences_of
from emotion_train.probing.plots import confusion_png, reliability_png
from emotion_train.scenes.faces import FACES_FILE, Faces, load_faces

RESULTS = Path(__file__).resolve().parent / "results"
SEED = 2022


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    args = parse_args(argv)
    measuring = partial(measure_again if args.only else measure, args)
    return report("bench_accuracy", args.out / "accuracy.json", measuring, page)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="bench_accuracy", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bundle", default="nano", help="bundle name or folder (default nano)")
    add("--data", type=Path, required=True, help="folder with data/fer2013_plus.npz")
    add("--videos", nargs="*", default=[], help="videos of real people on which label changes are counted")
    add("--faces", type=int, help="number of test faces (default: all)")
    add("--frames", type=int, default=8, help="number of frames rendered per clip (default 8)")
    add("--resamples", type=int, default=1000, help="number of bootstrap resamples (default 1000)")
    add(
        "--only",
        nargs="+",
        choices=get_args(ReducedPrecision),
        help="precisions that are measured again; all other results in --out stay as they are",
    )
    add("--out", type=Path, help="folder of the report (default results/BUNDLE)")
    args = parser.parse_args(argv)
    if args.frames < 1 or args.resamples < 0 or (args.faces is not None and args.faces < 16):
        parser.error("expected --frames of 1 or more, --resamples of 0 or more, --faces of 16 or more")
    args.out = args.out or RESULTS / Path(args.bundle).name
    return args


def measure_again(args: argparse.Namespace) -> dict[str, Any]:
    """Measure some precisions of a bundle whose fp32 graphs were measured before, and return all results."""
    path, bundle = args.out / "accuracy.json", load_bundle(args.bundle)
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EmotionError(
            f"{path} cannot be read ({error}): measure everything first, without --only"
        ) from error
    faces = load_faces(args.data / FACES_FILE, "test")
    settings = (result["frames"], result["test_faces"], result["bundle"]["checkpoint"])
    if (args.frames, len(faces.labels), bundle.manifest.checkpoint_sha256) != settings or args.faces:
        raise EmotionError(
            f"{path} was measured with --frames {settings[0]}, {settings[1]} faces and checkpoint "
            f"{settings[2]}: give the same, or measure everything without --only"
        )
    everyone = Plan(
        faces.by_majority(), bundle.manifest.preprocess, args.frames, bundle.manifest.clip_seconds, SEED
    )
    result["bundle"]["bytes"] = sizes(bundle.folder)
    result["sets"] |= in_precisions(args, everyone, faces, args.only)
    return result


def in_precisions(
    args: argparse.Namespace, everyone: Plan, faces: Faces, precisions: Sequence[ReducedPrecision]
) -> dict[str, Any]:
    """Return the accuracy in scenes of some precisions, as in `result["sets"]`."""
    head = load_bundle(args.bundle).manifest.default_head
    rows: dict[str, Any] = {}
    for precision in precisions:
        say(f"scenes in {precision}")
        part = Predictor(args.bundle, precision=precision).predictions(measures.scenes(everyone))
        rows[f"scenes_{precision}"] = measures.on_votes(part, head, faces, resamples=args.resamples)
    return rows


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run all measurements and return the content of accuracy.json."""
    bundle, candidate = load_bundle(args.bundle), of_bundle(args.bundle)
    manifest = bundle.manifest
    faces = load_faces(args.data / FACES_FILE, "test")
    if args.faces:
        faces = through_runtime.subset(faces).take(np.arange(args.faces))
    everyone = Plan(faces.by_majority(), manifest.preprocess, args.frames, manifest.clip_seconds, SEED)
    # What is not about votes is measured on faces that most people see alike.
    plan = dataclasses.replace(everyone, faces=everyone.faces.take(np.flatnonzero(faces.clear)))
    result: dict[str, Any] = {
        "benchmark": "accuracy",
        "machine": card(),
        "bundle": {
            "name": manifest.name,
            "checkpoint": manifest.checkpoint_sha256,
            "bytes": sizes(bundle.folder),
        },
        "test_faces": len(faces.labels),
        "clear_faces": len(plan.faces.labels),
        "frames": args.frames,
        "labels": list(EKMAN),
    }
    predictor, head = Predictor(args.bundle), manifest.default_head
    shown = on_sets(result, predictor, everyone, faces, args)
    say("pairs of people of different emotions")
    result["pairs"] = measures.pairs(predictor, plan, head, resamples=args.resamples)
    say("one corruption at a time")
    still = dataclasses.replace(plan, frames=1)  # nobody moves: distance is not what is compared
    result["corruptions"] = measures.corruptions(predictor, still, head)
    say("views by their quality")
    result["quality"] = quality_bins.measure(candidate, faces, manifest.quality, seed=SEED)
    say("a crop per person against one shared crop")
    result["windows"] = measures.windows(predictor, still, head)
    say("the whole runtime")
    few = Plan(through_runtime.subset(plan.faces), plan.spec, manifest.clip_frames, plan.seconds, SEED)
    with EmotionRuntime(args.bundle, backend="cpu") as runtime:
        result["through_runtime"] = through_runtime.accuracy(runtime, few)
    result["label_changes"] = {}
    for video in args.videos:
        say(f"label changes on {Path(video).name}")
        with EmotionRuntime(args.bundle, backend="cpu") as runtime:
            counted = through_runtime.steadiness(runtime, video)
        if counted.minutes:
            result["label_changes"][Path(video).name] = counted.per_minute()
    plots(args.out, result, shown, faces, head)
    return result


def on_sets(
    result: dict[str, Any], predictor: Predictor, plan: Plan, faces: Faces, args: argparse.Namespace
) -> tuple[Predictions, Predictions]:
    """Add the metrics of every test set and head; return what `plots` shows.

    Args:
        result: Gets them.
        predictor: The bundle.
        plan: What the sets are rendered from.
        faces: The faces, with the labels of FER2013.
        args: The command line.
    """
    say("scenes, degraded scenes, aligned faces")
    manifest = predictor.manifest
    head = manifest.default_head
    predictions = measures.sets(predictor, plan)
    on_votes = partial(measures.on_votes, faces=faces, resamples=args.resamples)
    rows = {name: on_votes(part, head) for name, part in predictions.items()}
    scenes = predictions["scenes"]
    clear = scenes.of(faces.clear[scenes.faces])
    result |= {
        "sets": rows,
        "by_people": measures.by_people(clear, head),
        "abstaining": measures.abstaining(clear, head, manifest.heads[head].abstain),
    }
    if ZERO_SHOT in predictor.heads:
        result["zero_shot"] = on_votes(scenes, ZERO_SHOT)
    if CATEGORIES in predictor.heads:
        result["categories_auc"] = measures.categories(clear, CATEGORIES, manifest.heads[CATEGORIES].labels)
    precisions = sorted(set.intersection(*(set(graph.variants) for graph in manifest.graphs.values())))
    rows |= in_precisions(args, plan, faces, precisions)
    return clear, scenes


def plots(
    out: Path,
    result: dict[str, Any],
    predictions: tuple[Predictions, Predictions],
    faces: Faces,
    head: str,
) -> None:
    """Draw confusions, reliability, and accuracy by quality.

    Args:
        out: Folder of the plots.
        result: Content of accuracy.json.
        predictions: In scenes, of faces that most people see alike and of all faces.
        faces: All faces.
        head: Name of the head.
    """
    clear, scenes = (part.probabilities[head] for part in predictions)
    labels, rows = predictions[0].labels, predictions[1].faces
    title = f"{result['bundle']['name']}, %d unseen faces in scenes of 1-4 people"
    confusion = confusion_png(EKMAN, clear.argmax(1), labels, title % len(labels))
    write_atomically(out / "confusion.png", confusion)
    against_votes = confidences_of(scenes, faces.majority[rows], faces.votes[rows])
    curve = reliability_png({"scenes, against the votes": against_votes}, title % len(rows))
    write_atomically(out / "reliability.png", curve)
    title = f"{result['bundle']['name']}, {len(faces.labels)} unseen faces"
    write_atomically(out / "quality.png", quality_bins.quality_png(result["quality"], title))


def sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of a bundle by precision of its graphs, heads included."""
    graphs: dict[str, int] = {}
    other = 0
    for file in folder.iterdir():
        if file.suffix == ".onnx":
            precision = file.stem.partition(".")[2] or "fp32"
            graphs[precision] = graphs.get(precision, 0) + file.stat().st_size
        elif file.suffix == ".safetensors":
            other += file.stat().st_size
    return {precision: size + other for precision, size in sorted(graphs.items())}


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"bench_accuracy: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
