"""Export a checkpoint as a bundle: ONNX graphs, heads, manifest, model card.

    python export/to_onnx.py --checkpoint runs/nano/checkpoint.pt --probe runs/nano/probe --out bundles/nano
    python export/to_onnx.py --checkpoint emotionclip_released.pt --window subject --out bundles/vit-b-32

Both kinds of checkpoint are taken: ours, and the layout of the released weights. The graphs are compared
with the torch model; beyond the tolerance nothing is written, and a bundle that was there stays as it was.
"""

import argparse
import sys
from pathlib import Path

from emotion_export.bundle import BundleOptions, export_bundle
from emotion_runtime.errors import EmotionError


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    args = parse_args(argv)
    options = BundleOptions(
        name=args.name or args.out.resolve().name,
        clip_seconds=args.clip_seconds,
        probe=args.probe,
        window=args.window,
        videos=tuple(args.real),
    )
    try:
        manifest = export_bundle(
            args.checkpoint, args.out, options, report=lambda text: print(text, flush=True)
        )
    except EmotionError as error:
        print(f"to_onnx: error: {error}", file=sys.stderr)
        return 2
    print(f"{args.out}: bundle {manifest.name!r}, heads {', '.join(manifest.heads)}")
    print(f"next: emotion-runtime --bundle {args.out} --source demo")
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="of pretrain.py, or the released .pt file"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle; replaced if it is one")
    parser.add_argument("--probe", type=Path, help="folder of fit_probe.py; its head becomes the default")
    parser.add_argument("--name", help="of the bundle (default: the name of --out)")
    parser.add_argument(
        "--clip-seconds", type=float, default=1.6, help="time a clip spans (default: %(default)s)"
    )
    parser.add_argument(
        "--window", choices=("center", "subject"), help="of the crops (default: what the checkpoint says)"
    )
    parser.add_argument(
        "--real",
        nargs="+",
        default=[],
        metavar="VIDEO",
        help="videos whose frames the comparison uses as well",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
