"""Export to ONNX: a checkpoint as a bundle, more precisions for a bundle, a detector, a text tower.

    emotion-export onnx --checkpoint runs/nano/checkpoint.pt --probe runs/nano/probe --out bundles/nano
    emotion-export onnx --checkpoint emotionclip_released.pt --window subject --out bundles/vit-b-32
    emotion-export onnx --checkpoint CKPT --precision fp16 int8 --videos people.mp4 --out bundles/mine
    emotion-export onnx --bundle nano --precision fp16 int8 --videos people.mp4 --out bundles/nano-small
    emotion-export onnx --detector yolo11n.pt --imgsz 640 --out yolo11n.onnx
    emotion-export onnx --checkpoint CKPT --text-tower --out text_encoder.onnx

Both kinds of checkpoint are taken: ours, and the layout of the released weights. Every graph is compared with
the torch model (of --bundle: with its fp32 graphs), on the demo's portraits, on the people of --videos and on
random pictures; beyond the tolerance nothing is written, and what was there stays as it was.
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
from emotion_runtime.errors import EmotionError

PROGRAM = "emotion-export onnx"

_DEFAULTS: Final = MappingProxyType(
    {
        "precision": ["fp32"],
        "videos": [],
        "probe": None,
        "name": None,
        "clip_seconds": 1.6,
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
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, help="of emotion-train pretrain, or the released .pt file")
    what.add_argument("--bundle", help="name or folder of a bundle that gets more precisions")
    what.add_argument(
        "--detector", metavar="MODEL", help="ultralytics .pt or .yaml (AGPL-3.0: its terms apply)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder of the bundle, replaced if it is one; or the .onnx file",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=("fp32", "fp16", "int8"),
        default=_DEFAULTS["precision"],
        help="of the graphs; fp32 is always there (default: fp32)",
    )
    parser.add_argument(
        "--videos",
        nargs="+",
        default=_DEFAULTS["videos"],
        metavar="VIDEO",
        help="people to calibrate int8 on and to compare on, beside the demo's two",
    )
    parser.add_argument(
        "--text-tower", action="store_true", help="export the text tower of --checkpoint only"
    )
    parser.add_argument(
        "--probe", type=Path, help="folder of emotion-train fit-probe; its head becomes the default"
    )
    parser.add_argument("--name", help="of the bundle (default: the name of --out)")
    parser.add_argument(
        "--clip-seconds",
        type=float,
        default=_DEFAULTS["clip_seconds"],
        help="time a clip spans (default: %(default)s)",
    )
    parser.add_argument(
        "--window", choices=("center", "subject"), help="of the crops (default: what the checkpoint says)"
    )
    parser.add_argument(
        "--imgsz",
        type=int,
        default=_DEFAULTS["imgsz"],
        help="side of the detector's input, pixels (default: %(default)s)",
    )
    return parser


def _export(args: argparse.Namespace) -> None:
    _refuse_unused(args)
    precisions = frozenset(args.precision) - {"fp32"}
    if args.detector is not None:
        export_detector(args.detector, args.out, imgsz=args.imgsz, report=_say)
        print(f"next: emotion-runtime --detector {args.out} --source demo")
        return
    if args.text_tower:
        export_text_tower(args.checkpoint, args.out, report=_say)
        return
    if args.bundle is not None:
        manifest = derive_bundle(args.bundle, args.out, precisions, args.videos, report=_say)
    else:
        options = BundleOptions(
            name=args.name or args.out.resolve().name,
            clip_seconds=args.clip_seconds,
            probe=args.probe,
            window=args.window,
            videos=tuple(args.videos),
            precisions=precisions,
        )
        manifest = export_bundle(args.checkpoint, args.out, options, report=_say)
    print(f"{args.out}: bundle {manifest.name!r}, heads {', '.join(manifest.heads)}")
    print(f"next: emotion-runtime --bundle {args.out} --source demo")


def _refuse_unused(args: argparse.Namespace) -> None:
    """An option that would change nothing was meant to change something.

    Raises:
        EmotionError: there is one.

    """
    if args.text_tower and args.checkpoint is None:
        raise EmotionError("--text-tower needs --checkpoint: a bundle holds no text tower")
    if args.detector is not None:
        what, used = "--detector", {"imgsz"}
    elif args.text_tower:
        what, used = "--text-tower", set()
    elif args.bundle is not None:
        what, used = "--bundle", {"precision", "videos"}
    else:
        what, used = "--checkpoint", {"precision", "videos", "probe", "name", "clip_seconds", "window"}
    unused = [
        name for name, default in _DEFAULTS.items() if name not in used and getattr(args, name) != default
    ]
    if unused:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        raise EmotionError(f"{names} would change nothing with {what}: leave it out")


def _say(text: str) -> None:
    print(text, flush=True)
