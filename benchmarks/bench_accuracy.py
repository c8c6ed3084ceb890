"""Measure the accuracy of a bundle: every number of its model card, on faces never used to train or tune it.

    python benchmarks/bench_accuracy.py --data ../shared --videos ../shared/videos/*.gif   # about 15 minutes
    python benchmarks/bench_accuracy.py --data ../shared --faces 40 --frames 2             # a quick trial

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
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emotion_bench import accuracy as measures
from emotion_bench import quality_bins, through_runtime
from emotion_bench.accuracy_page import page
from emotion_bench.accuracy_sets import Plan, aligned_faces, scenes
from emotion_bench.candidates import of_bundle
from emotion_bench.predictions import Predictions, bundle_predictor
from emotion_bench.report import report
from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.files import write_atomically
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
    return report("bench_accuracy", args.out / "accuracy.json", partial(measure, args), page)


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
    add("--out", type=Path, help="folder of the report (default results/BUNDLE)")
    args = parser.parse_args(argv)
    if args.frames < 1 or args.resamples < 0 or (args.faces is not None and args.faces < 16):
        parser.error("expected --frames of 1 or more, --resamples of 0 or more, --faces of 16 or more")
    args.out = args.out or RESULTS / Path(args.bundle).name
    return args


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run all measurements and return the content of accuracy.json."""
    candidate, bundle = of_bundle(args.bundle), load_bundle(args.bundle)
    manifest, head = bundle.manifest, bundle.manifest.default_head
    faces = load_faces(args.data / FACES_FILE, "test")
    if args.faces:
        faces = through_runtime.subset(faces).take(np.arange(args.faces))
    everyone = Plan(faces.by_majority(), manifest.preprocess, args.frames, manifest.clip_seconds, SEED)
    # What is not about votes is measured on faces that most people see alike.
    plan = replace(everyone, faces=everyone.faces.take(np.flatnonzero(faces.clear)))
    still = replace(plan, frames=1)  # nobody moves: distance is not what is compared
    few = replace(plan, faces=through_runtime.subset(plan.faces), frames=manifest.clip_frames)
    predictor, resamples = bundle_predictor(args.bundle), args.resamples
    result: dict[str, Any] = {
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
    in_scenes = predictor.predictions(scenes(everyone))
    predictions = {
        "scenes": in_scenes,
        "poor_scenes": predictor.predictions(scenes(everyone, degraded=True)),
        "tight_faces": predictor.predictions(aligned_faces(everyone)),
    }
    for precision in sorted(set.intersection(*(set(graph.variants) for graph in manifest.graphs.values()))):
        predictions[f"scenes_{precision}"] = bundle_predictor(args.bundle, precision).predictions(
            scenes(everyone)
        )
    on_votes = partial(measures.on_votes, faces=faces, resamples=resamples)
    result["sets"] = {name: on_votes(part, head) for name, part in predictions.items()}
    result |= of_scenes(in_scenes.of(faces.clear[in_scenes.faces]), bundle)
    if ZERO_SHOT in predictor.heads:
        result["zero_shot"] = on_votes(in_scenes, ZERO_SHOT)
    result["pairs"] = measures.pairs(predictor, plan, head, resamples=resamples)
    result["corruptions"] = measures.corruptions(predictor, still, head)
    result["quality"] = quality_bins.measure(candidate, faces, manifest.quality, seed=SEED)
    result["windows"] = measures.windows(predictor, still, head)
    result |= whole_runtime(args.bundle, few, args.videos)
    plots(args.out, result, in_scenes, faces, head)
    return result


def of_scenes(predictions: Predictions, bundle: Bundle) -> dict[str, Any]:
    """Return metrics of predictions in scenes, for faces that most people see alike."""
    manifest, head = bundle.manifest, bundle.manifest.default_head
    result = {
        "by_people": measures.by_people(predictions, head),
        "abstaining": measures.abstaining(predictions, head, manifest.heads[head].abstain),
    }
    if CATEGORIES in predictions.probabilities:
        labels = manifest.heads[CATEGORIES].labels
        result["categories_auc"] = measures.categories(predictions, CATEGORIES, labels)
    return result


def whole_runtime(bundle: str, plan: Plan, videos: Sequence[str]) -> dict[str, Any]:
    """Return the accuracy of the whole runtime, and label changes on the videos with somebody in view."""
    with EmotionRuntime(bundle, backend="cpu") as runtime:
        result: dict[str, Any] = {"through_runtime": through_runtime.accuracy(runtime, plan)}
    result["label_changes"] = {}
    for video in videos:
        with EmotionRuntime(bundle, backend="cpu") as runtime:
            if changes := through_runtime.steadiness(runtime, video):
                result["label_changes"][Path(video).name] = changes
    return result


def plots(out: Path, result: dict[str, Any], predictions: Predictions, faces: Faces, head: str) -> None:
    """Draw confusions, reliability, and accuracy by quality.

    Args:
        out: Folder of the plots.
        result: Content of accuracy.json.
        predictions: In scenes, of all faces.
        faces: The faces.
        head: Name of the head.
    """
    rows, name = predictions.faces, result["bundle"]["name"]
    clear = predictions.of(faces.clear[rows])
    title = f"{name}, %d unseen faces in scenes of 1-4 people"
    chosen = clear.probabilities[head].argmax(axis=1)
    confusion = confusion_png(EKMAN, chosen, clear.labels, title % len(clear.labels))
    write_atomically(out / "confusion.png", confusion)
    votes = confidences_of(predictions.probabilities[head], faces.majority[rows], faces.votes[rows])
    reliability = reliability_png({"scenes, against the votes": votes}, title % len(rows))
    write_atomically(out / "reliability.png", reliability)
    quality = quality_bins.quality_png(result["quality"], f"{name}, {len(rows)} unseen faces")
    write_atomically(out / "quality.png", quality)


def sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of a bundle by precision of its graphs, heads included."""
    graphs = Counter[str]()
    for file in folder.glob("*.onnx"):
        graphs[file.stem.partition(".")[2] or "fp32"] += file.stat().st_size
    heads = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return {precision: size + heads for precision, size in sorted(graphs.items())}


if __name__ == "__main__":
    sys.exit(main())
