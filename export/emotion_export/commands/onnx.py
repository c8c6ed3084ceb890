"""Export to ONNX: a checkpoint as a bundle, more precisions for a bundle, a detector, or a text tower.

    emotion-export onnx --checkpoint runs/nano/checkpoint.pt --probe runs/nano/probe --out bundles/nano
    emotion-export onnx --checkpoint emotionclip_released.pt --window subject --out bundles/vit-b-32
    emotion-export onnx --checkpoint CKPT --precision fp16 int8 --videos people.mp4 --out bundles/mine
    emotion-export onnx --checkpoint CKPT --swap-videos people.mp4 --out bundles/mine
    emotion-export onnx --bundle nano --precision fp16 int8 --videos people.mp4 --out bundles/nano-small
    emotion-export onnx --detector yolo11n.pt --imgsz 640 --out yolo11n.onnx
    emotion-export onnx --checkpoint CKPT --text-tower --out text_encoder.onnx

--checkpoint takes checkpoints of emotion-train pretrain and the released weights. Every graph is compared
with the torch model (with --bundle: with the bundle's fp32 graphs) on the people of the demo, on the people
of --videos and on random images. If the difference exceeds the tolerance, nothing is written and existing
files stay as they were.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from emotion_export.bundle import BundleOptions, export_bundle
from emotion_export.derive import derive_bundle
from emotion_export.detector import export_detector
from emotion_export.text import export_text_tower
from emotion_runtime.console import OneLineParser
from emotion_runtime.defaults import CLIP_SECONDS
from emotion_runtime.errors import EmotionError

PROGRAM = "emotion-export onnx"

_DEFAULTS: Final = MappingProxyType(
    {
        "precision": ["fp32"],
        "videos": [],
        "swap_videos": [],
        "probe": None,
        "name": None,
        "clip_seconds": CLIP_SECONDS,
        "window": None,
        "imgsz": 640,
    }
)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    try:
        _export(args)
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; nothing was written to {args.out}", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog=PROGRAM, description=__doc__.splitlines()[0])
    _add_models(parser)
    _add_settings(parser)
    return parser


def _add_models(parser: argparse.ArgumentParser) -> None:
    """Add the options of what is exported, and where to."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--checkpoint", type=Path, help="checkpoint of emotion-train pretrain, or the released .pt file"
    )
    what.add_argument("--bundle", help="name or folder of a bundle to add precisions to")
    what.add_argument(
        "--detector",
        metavar="MODEL",
        help="detector of ultralytics, .pt or .yaml (its licence, AGPL-3.0, applies to the exported file)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder of the bundle (one of the same name is replaced), or the .onnx file",
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options of how it is exported, measured and named."""
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=("fp32", "fp16", "int8"),
        default=_DEFAULTS["precision"],
        help="numeric precisions of the exported graphs; fp32 is always included (default: fp32)",
    )
    parser.add_argument(
        "--videos",
        nargs="+",
        default=_DEFAULTS["videos"],
        metavar="VIDEO",
        help="videos of people, used for the int8 calibration and the parity check in addition to the demo",
    )
    parser.add_argument(
        "--swap-videos",
        nargs="+",
        default=_DEFAULTS["swap_videos"],
        metavar="VIDEO",
        help="videos in which every person stays in view, used to measure from which cosine of embeddings on "
        "somebody is another person (default: the runtime does not look for that)",
    )
    parser.add_argument(
        "--text-tower", action="store_true", help="export only the text tower of --checkpoint"
    )
    parser.add_argument(
        "--probe", type=Path, help="folder of emotion-train fit-probe; its head becomes the default head"
    )
    parser.add_argument("--name", help="name of the bundle (default: the name of --out)")
    parser.add_argument(
        "--clip-seconds",
        type=float,
        default=_DEFAULTS["clip_seconds"],
        help="duration of a clip in seconds (default: %(default)s)",
    )
    parser.add_argument(
        "--window",
        choices=("center", "subject"),
        help="crop the center of the image or a window around each person (default: as in the checkpoint)",
    )
    parser.add_argument(
        "--imgsz",
        type=int,
        default=_DEFAULTS["imgsz"],
        help="side of the detector's input in pixels (default: %(default)s)",
    )


def _export(args: argparse.Namespace) -> None:
    """Run the export that the options ask for."""
    _refuse_unused(args)
    precisions = frozenset(args.precision) - {"fp32"}
    if args.detector is not None:
        export_detector(args.detector, args.out, imgsz=args.imgsz)
        print(f"next: emotion-runtime --detector {args.out} --source demo")
        return
    if args.text_tower:
        export_text_tower(args.checkpoint, args.out)
        return
    if args.bundle is not None:
        manifest = derive_bundle(args.bundle, args.out, precisions, args.videos)
    else:
        options = BundleOptions(
            name=args.name or args.out.resolve().name,
            clip_seconds=args.clip_seconds,
            probe=args.probe,
            window=args.window,
            videos=tuple(args.videos),
            precisions=precisions,
            swap_videos=tuple(args.swap_videos),
        )
        manifest = export_bundle(args.checkpoint, args.out, options)
    print(f"{args.out}: bundle {manifest.name!r}, heads {', '.join(manifest.heads)}")
    print(f"next: emotion-runtime --bundle {args.out} --source demo")


def _refuse_unused(args: argparse.Namespace) -> None:
    """Refuse options that have no effect in this mode.

    Raises:
        EmotionError: An option has no effect, or --text-tower is given without --checkpoint.
    """
    if args.text_tower and args.checkpoint is None:
        raise EmotionError("--text-tower needs --checkpoint: a bundle does not contain a text tower")
    if args.detector is not None:
        what, used = "--detector", {"imgsz"}
    elif args.text_tower:
        what, used = "--text-tower", set()
    elif args.bundle is not None:
        what, used = "--bundle", {"precision", "videos"}
    else:
        what, used = "--checkpoint", set(_DEFAULTS) - {"imgsz"}
    unused = [
        name for name, default in _DEFAULTS.items() if name not in used and getattr(args, name) != default
    ]
    if unused:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        raise EmotionError(f"{names} would have no effect with {what}: leave it out")
