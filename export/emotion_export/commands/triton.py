"""Write a bundle as a model repository of NVIDIA's Triton Inference Server.

    emotion-export triton --bundle nano --out repository
    emotion-export triton --bundle nano --out repository --platform tensorrt   # on the server's GPU

UNVERIFIED with a GPU: emotion_export/triton.py lists the commands that verify it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from emotion_export.triton import MAX_PERSONS, write_repository
from emotion_runtime.bundle import load_bundle
from emotion_runtime.console import OneLineParser

PROGRAM = "emotion-export triton"


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    try:
        names = write_repository(
            load_bundle(args.bundle),
            args.out,
            platform=args.platform,
            version=args.model_version,
            persons=args.max_persons,
        )
    except KeyboardInterrupt:
        print(f"{PROGRAM}: stopped; nothing was written", file=sys.stderr)
        return 130
    unverified = ", UNVERIFIED on a server with a GPU" if args.platform == "tensorrt" else ""
    print(f"{args.out}: {', '.join(names)}{unverified}")
    print(f"next: tritonserver --model-repository={args.out.resolve()}")
    print(f"then: python export/triton_client.py --bundle {args.bundle} --source demo")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog=PROGRAM, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", required=True, help="name of a shipped bundle, or a folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the repository: new or empty")
    parser.add_argument(
        "--platform",
        choices=("onnxruntime", "tensorrt"),
        default="onnxruntime",
        help="backend of the server that runs the models (default: %(default)s)",
    )
    parser.add_argument(
        "--model-version", type=int, default=1, help="version of both models (default: %(default)s)"
    )
    parser.add_argument(
        "--max-persons",
        type=int,
        help=f"maximum number of people per batch; only for onnxruntime (default: {MAX_PERSONS})",
    )
    return parser
