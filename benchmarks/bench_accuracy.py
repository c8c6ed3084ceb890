"""Measure the accuracy of a bundle: every number of its model card, on the test split of the faces.

    python benchmarks/bench_accuracy.py --data ../shared --videos ../shared/videos/*.gif   # about 15 minutes
    python benchmarks/bench_accuracy.py --data ../shared --faces 40 --frames 2             # a quick trial

Everything runs on the bundle's ONNX graphs, as the runtime computes them; nothing of the model is in torch.
The label of a face is the emotion that more than half of ten annotators see; faces without such a majority
count for the calibration error, which compares probabilities with votes. Test sets: scenes (1-4 people, an
ordinary camera), scenes_new_faces (without the faces that show the same photograph as one for training or
tuning), poor_scenes (bad light, tilted and covered faces, camera faults), tight_faces (the aligned
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
from emotion_bench.copies import SAME, likeness
from emotion_bench.predictions import Predictions
from emotion_bench.report import RESULTS, report
from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.files import write_atomically
from emotion_runtime.heads import load_head
from emotion_runtime.runtime import EmotionRuntime
from emotion_train.heads import CATEGORIES, ZERO_SHOT
from emotion_train.language.labels import EKMAN
from emotion_train.probing.calibration import confidences_of
from emotion_train.probing.plots import confusion_png, reliability_png
from emotion_train.scenes.faces import FACES_FILE, Faces, load_faces

SEED = 2022


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="bench_accuracy", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bundle", default="nano", help="bundle name or folder (default nano)")
    add("--data", type=Path, required=True, help="folder with data/fer2013_plus.npz")
    add("--videos", nargs="*", default=[], help="videos of real people on which label changes are counted")
    add("--faces", type=int, help="number of test faces (default: all)")
    add("--frames", type=int, default=8, help="number of frames rendered per clip (default 8)")
    add("--out", type=Path, help="folder of the report (default results/BUNDLE)")
    args = parser.parse_args(argv)
    if args.frames < 1 or (args.faces or 16) < 16:
        parser.error("expected --frames of 1 or more, --faces of 16 or more")
    args.out = args.out or RESULTS / Path(args.bundle).name
    return report("bench_accuracy", args.out / "accuracy.json", partial(measure, args), page)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run all measurements and return the content of accuracy.json."""
    bundle, candidate = load_bundle(args.bundle), of_bundle(args.bundle)
    manifest = bundle.manifest
    faces = load_faces(args.data / FACES_FILE, "test")
    if args.faces:
        faces = through_runtime.subset(faces).take(np.arange(args.faces))
    everyone = Plan(faces.by_majority(), manifest.preprocess, args.frames, manifest.clip_seconds, SEED)
    # What is not about votes is measured on faces that most people see alike.
    plan = replace(everyone, faces=everyone.faces.take(np.flatnonzero(faces.clear)))
    still = replace(plan, frames=1)  # nobody moves: distance is not what is compared
    few = replace(plan, faces=through_runtime.subset(plan.faces), frames=manifest.clip_frames)
    in_scenes = candidate.predictions(scenes(everyone))
    predictions = {
        "scenes": in_scenes,
        "poor_scenes": candidate.predictions(scenes(everyone, degraded=True)),
        "tight_faces": candidate.predictions(aligned_faces(everyone)),
    }
    known = np.concatenate([load_faces(args.data / FACES_FILE, split).images for split in ("train", "val")])
    copied = likeness(faces.images, known) >= SAME
    predictions["scenes_new_faces"] = in_scenes.of(~copied[in_scenes.faces])
    for precision in sorted(set.intersection(*(set(graph.variants) for graph in manifest.graphs.values()))):
        variant = of_bundle(args.bundle, precision)
        predictions[f"scenes_{precision}"] = variant.predictions(scenes(everyone))
    result: dict[str, Any] = {
        "bundle": {
            "name": manifest.name,
            "checkpoint": manifest.checkpoint_sha256,
            "bytes": sizes(bundle.folder),
        },
        "test_faces": len(faces.labels),
        "clear_faces": len(plan.faces.labels),
        "copies": int(copied.sum()),
        "frames": args.frames,
        "labels": list(EKMAN),
        "sets": {name: measures.on_votes(part, faces) for name, part in predictions.items()},
        **of_scenes(in_scenes, faces, bundle),
        "pairs": measures.pairs(candidate, plan),
        "corruptions": measures.corruptions(candidate, still),
        "quality": quality_bins.measure(candidate, faces, manifest.quality, seed=SEED),
        "windows": measures.windows(candidate, still),
        **whole_runtime(args.bundle, few, args.videos),
    }
    plots(args.out, result, in_scenes, faces)
    return result


def of_scenes(predictions: Predictions, faces: Faces, bundle: Bundle) -> dict[str, Any]:
    """Return metrics of predictions in scenes, for faces that most people see alike, and of other heads."""
    clear, heads = predictions.of(faces.clear[predictions.faces]), bundle.manifest.heads
    result = {
        "by_people": measures.by_people(clear),
        "abstaining": measures.abstaining(clear, heads[bundle.manifest.default_head].abstain),
    }
    if CATEGORIES in heads:
        shares = clear.by(load_head(bundle, CATEGORIES))
        result["categories_auc"] = measures.categories(shares, heads[CATEGORIES].labels)
    if ZERO_SHOT in heads:
        zero_shot = predictions.by(load_head(bundle, ZERO_SHOT))
        result["zero_shot"] = measures.on_votes(zero_shot, faces)
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


def plots(out: Path, result: dict[str, Any], predictions: Predictions, faces: Faces) -> None:
    """Draw confusions, reliability, and accuracy by quality, from predictions of all faces in scenes."""
    rows, name = predictions.faces, result["bundle"]["name"]
    clear, title = predictions.of(faces.clear[rows]), f"{name}, %d test faces in scenes of 1-4 people"
    votes = confidences_of(predictions.probabilities, faces.majority[rows], faces.votes[rows])
    images = {
        "confusion": confusion_png(EKMAN, clear.chosen, clear.labels, title % len(clear.labels)),
        "reliability": reliability_png({"scenes, against the votes": votes}, title % len(rows)),
        "quality": quality_bins.quality_png(result["quality"], f"{name}, {len(rows)} test faces"),
    }
    for kind, image in images.items():
        write_atomically(out / f"{kind}.png", image)


def sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of a bundle by precision of its graphs, heads included."""
    graphs = Counter[str]()
    for file in folder.glob("*.onnx"):
        graphs[file.stem.partition(".")[2] or "fp32"] += file.stat().st_size
    heads = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return {precision: size + heads for precision, size in sorted(graphs.items())}


if __name__ == "__main__":
    sys.exit(main())
