r"""What a bundle knows: every figure of its model card, on faces that no training and no tuning ever saw.

    python benchmarks/bench_accuracy.py --data ../shared --peer ../shared/peers/human_emotion.onnx \
        --videos ../shared/videos/*.gif        # about a quarter of an hour
    python benchmarks/bench_accuracy.py --data ../shared --faces 40 --frames 2    # does it run?

All of it runs on the bundle's ONNX graphs, as the runtime computes them; nothing of the model is in torch.
Sets: scenes (1-4 people, an ordinary camera), poor_scenes (bad light, tilted and covered faces, every fault
of a camera), tight_faces (the 48 px squares themselves), pairs (two people of different emotions), one
corruption at a time, crowds of 1, 3 and 8, 300 faces through detector, tracker and all, label changes on
videos. Written to --out: accuracy.json, accuracy.md, confusion.png, reliability.png.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from emotion_bench import accuracy as measures
from emotion_bench import through_runtime
from emotion_bench.accuracy_page import page
from emotion_bench.accuracy_sets import Plan
from emotion_bench.answers import Answerer
from emotion_bench.machine import card
from emotion_bench.report import write_json, write_text
from emotion_runtime.bundle import load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.runtime import EmotionRuntime
from emotion_train.heads import CATEGORIES, ZERO_SHOT
from emotion_train.language.labels import EKMAN
from emotion_train.probing.calibration import confidences_of
from emotion_train.probing.plots import confusion_png, reliability_png
from emotion_train.scenes.faces import load_faces

RESULTS = Path(__file__).resolve().parent / "results"
SEED = 2022


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    try:
        args = parse_args(argv)
        result = measure(args)
    except EmotionError as error:
        print(f"bench_accuracy: error: {error}", file=sys.stderr)
        return 2
    text = page(result)
    write_json(args.out / "accuracy.json", result)
    write_text(args.out / "accuracy.md", text)
    print(text)
    print(f"bench_accuracy: {args.out} holds the report")
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench_accuracy", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bundle", default="nano", help="name or folder (default nano)")
    add("--data", type=Path, required=True, help="folder with data/fer2013.npz")
    add("--peer", type=Path, help="ONNX file of a network for tight faces, measured beside")
    add("--videos", nargs="*", default=[], help="real people, on whom label changes are counted")
    add("--faces", type=int, help="only so many test faces (default: all)")
    add("--frames", type=int, default=8, help="pictures drawn of a clip (default 8)")
    add("--resamples", type=int, default=1000, help="of the bootstrap (default 1000)")
    add("--out", type=Path, help="folder of the report (default results/BUNDLE)")
    args = parser.parse_args(argv)
    if args.frames < 1 or args.resamples < 0 or (args.faces is not None and args.faces < 8):
        parser.error("expected --frames of 1 or more, --resamples of 0 or more, --faces of 8 or more")
    args.out = args.out or RESULTS / Path(args.bundle).name
    return args


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything, as JSON has it."""
    bundle = load_bundle(args.bundle)
    manifest = bundle.manifest
    head = manifest.default_head
    if manifest.heads[head].labels != list(EKMAN):
        raise EmotionError(
            f"head {head} of bundle {manifest.name} answers with {', '.join(manifest.heads[head].labels)}: "
            f"expected {', '.join(EKMAN)}, which test faces are labelled with"
        )
    faces = load_faces(args.data / "data" / "fer2013.npz", "test")
    if args.faces:
        faces = through_runtime.subset(faces).take(range(args.faces))  # type: ignore[arg-type]
    plan = Plan(faces, manifest.preprocess, args.frames, manifest.clip_seconds, SEED)
    answerer = Answerer(args.bundle)

    say("scenes, poor scenes, tight faces")
    answers = measures.sets(answerer, plan)
    rows: dict[str, Any] = {
        name: measures.figures(part.probabilities[head], part.labels, resamples=args.resamples)
        for name, part in answers.items()
    }
    scenes = answers["scenes"]
    result: dict[str, Any] = {
        "benchmark": "accuracy",
        "machine": card(),
        "bundle": {
            "name": manifest.name,
            "checkpoint": manifest.checkpoint_sha256,
            "bytes": sizes(bundle.folder),
        },
        "test_faces": len(faces.labels),
        "frames": args.frames,
        "labels": list(EKMAN),
        "sets": rows,
        "by_people": measures.by_people(scenes, head),
        "abstaining": measures.abstaining(scenes, head, manifest.heads[head].abstain),
    }
    if ZERO_SHOT in answerer.heads:
        result["zero_shot"] = measures.figures(
            scenes.probabilities[ZERO_SHOT], scenes.labels, resamples=args.resamples
        )
    if CATEGORIES in answerer.heads:
        result["categories_auc"] = measures.categories(scenes, CATEGORIES, manifest.heads[CATEGORIES].labels)
    precisions = sorted(set.intersection(*(set(graph.variants) for graph in manifest.graphs.values())))
    for precision in precisions:
        say(f"scenes in {precision}")
        part = Answerer(args.bundle, precision=precision).answers(measures.scenes(plan))
        rows[f"scenes_{precision}"] = measures.figures(
            part.probabilities[head], part.labels, resamples=args.resamples
        )
    say("pairs of people of different emotions")
    result["pairs"] = measures.pairs(answerer, plan, head, resamples=args.resamples)
    say("one corruption at a time")
    still = dataclasses.replace(plan, frames=1)  # nobody moves there, or it is nearness that is compared
    result["corruptions"] = measures.corruptions(answerer, still, head)
    say("a window each against one picture for all")
    result["windows"] = measures.windows(answerer, still, head)
    if args.peer:
        say("the peer")
        peer = measures.Peer(args.peer)
        result["peer"] = {
            "name": args.peer.name,
            "tight_faces": measures.peer_on_tight_faces(peer, plan, resamples=args.resamples),
            "scenes": measures.peer_on_scenes(peer, plan, resamples=args.resamples),
        }
    say("through detector, tracker and all")
    few = Plan(through_runtime.subset(faces), plan.spec, manifest.clip_frames, plan.seconds, SEED)
    with EmotionRuntime(args.bundle, backend="cpu") as runtime:
        result["through_runtime"] = through_runtime.accuracy(runtime, few)
    result["label_changes"] = {}
    for video in args.videos:
        say(f"label changes on {Path(video).name}")
        with EmotionRuntime(args.bundle, backend="cpu") as runtime:
            counted = through_runtime.steadiness(runtime, video)
        if counted.minutes:
            result["label_changes"][Path(video).name] = counted.per_minute()
    probability = scenes.probabilities[head]
    title = f"{manifest.name}, {len(scenes.labels)} unseen faces in scenes of 1-4 people"
    write_atomically(
        args.out / "confusion.png", confusion_png(EKMAN, probability.argmax(1), scenes.labels, title)
    )
    write_atomically(
        args.out / "reliability.png",
        reliability_png({"scenes": confidences_of(probability, scenes.labels)}, title),
    )
    return result


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of what a bundle needs in fp32, and of its graphs in other precisions."""
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
    """A line on what is being done."""
    print(f"bench_accuracy: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
