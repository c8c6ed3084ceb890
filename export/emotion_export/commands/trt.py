"""Build TensorRT engines from a bundle, one per graph, and check them on this GPU.

    emotion-export trt --bundle nano                              # on the GPU that will run the engines
    emotion-export trt --bundle nano --flavor rtx --target SM86   # ahead of time, without a GPU
    emotion-export trt --detector yolo11n.onnx --frame-size 1920x1080

The detector is built, too, once for each size of frames that the cameras have; the runtime builds it for
other sizes when their frames come. Engines go to the cache, where `emotion-runtime --backend tensorrt` finds
them. On a GPU, each is compared with the fp32 graph; one that was built ahead of time, when it is first
loaded.

Building ahead of time is tested with the real tensorrt-rtx. Building on a GPU is UNVERIFIED: it is tested
with stand-ins; the first command above, followed by `emotion-runtime --backend tensorrt`, verifies it.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from emotion_export.engines import build_bundle, build_detector
from emotion_export.targets import parse_targets, targets_of
from emotion_export.tensorrt import Builder
from emotion_runtime.backends.buckets import limits_for
from emotion_runtime.bundle import load_bundle
from emotion_runtime.console import OneLineParser
from emotion_runtime.detectors import load_detector
from emotion_runtime.detectors.graph import Size
from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.errors import EmotionError
from emotion_runtime.names import DetectorSize
from emotion_runtime.tensorrt.cache import CACHE_VARIABLE, cache_folder, default_folder
from emotion_runtime.tensorrt.gpu import Flavor, Gpu, find_gpu, load_tensorrt
from emotion_runtime.tensorrt.keys import detector_precision

PROGRAM = "emotion-export trt"
FRAME_SIZES = ((640, 480), (1280, 720))  # width, height
FLAVORS: dict[str, Flavor] = {"tensorrt": "tensorrt", "rtx": "tensorrt-rtx"}


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    try:
        _check(args)
        bundle = load_bundle(args.bundle) if args.bundle is not None else None
        builder, folder = prepare(args)  # mistakes surface before the first long build
        chosen = detectors(args)
        if bundle is not None:
            limits = limits_for(bundle.manifest.preprocess.window, args.max_persons)
            limits = replace(limits, images=args.max_frames or limits.images)
            build_bundle(bundle, builder, folder, args.precision, limits)
        for detector, size in chosen:
            build_detector(detector, size, builder, folder, detector_precision(args.precision))
        if bundle is not None:
            print(f"next: {next_command(args.bundle, builder, folder)}")
    except KeyboardInterrupt:
        print(
            f"{PROGRAM}: stopped; finished engines are kept, the unfinished one was discarded",
            file=sys.stderr,
        )
        return 130
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse options that contradict each other."""
    if args.bundle is None and args.detector in (None, "none"):
        raise EmotionError("nothing to build: give --bundle NAME|DIR, or --detector face|FILE.onnx")
    sizes = (args.max_persons, args.max_frames, args.workspace)
    if min(size for size in sizes if size is not None) < 1:
        raise EmotionError("--max-persons, --max-frames and --workspace: expected 1 or more")
    if args.bundle is None and args.precision == "int8":
        raise EmotionError("--precision int8: a detector has none; expected ladder, fp16 or fp32")
    if args.target is not None and args.flavor == "tensorrt":
        raise EmotionError(
            "--target is not available for tensorrt, which builds an engine only on the GPU that will run "
            "it: leave --target out and run this there, or build ahead of time with --flavor rtx"
        )


def prepare(args: argparse.Namespace) -> tuple[Builder, Path]:
    """Return the builder and the folder of the engines, from the command line."""
    flavor = FLAVORS[args.flavor]
    library = load_tensorrt(flavor)
    folder = output_folder(args.out) if args.out is not None else cache_folder(args.cache)
    if args.target is not None:
        gpu, timings = Gpu("", parse_targets(args.target, library)), None
    else:
        gpu = find_gpu()
        # Timings hold for one GPU and one version of TensorRT.
        name = "-".join(["timings", library.__version__, *re.findall(r"[\w.]+", gpu.name)])
        timings = None if flavor == "tensorrt-rtx" else folder / f"{name}.cache"
    return Builder(library, flavor, gpu, args.workspace, timings), folder


def detectors(args: argparse.Namespace) -> list[tuple[NetworkDetector, Size]]:
    """Return the detector that is built, with each size (height, width) of its input once."""
    name = args.detector or "face"
    if name == "none":
        return []
    detector = load_detector(name, size=args.detector_size)
    if not isinstance(detector, NetworkDetector):
        raise EmotionError(f"--detector {name}: has no network to build")
    sizes = [
        detector.prepare(np.zeros((height, width, 3), np.uint8))[1].size
        for width, height in args.frame_size or FRAME_SIZES
    ]
    return [(detector, size) for size in dict.fromkeys(sizes)]


def frame_size(text: str) -> tuple[int, int]:
    """Return the width and height that a text such as "1280x720" states."""
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected WIDTHxHEIGHT in pixels, for example 1280x720")
    return int(found[1]), int(found[2])


def detector_size(text: str) -> DetectorSize:
    """Return the size that a text states, which `load_detector` checks."""
    return "auto" if text == "auto" else int(text)


def next_command(bundle: str, builder: Builder, folder: Path) -> str:
    """Return the command that runs the engines of a bundle."""
    where = "" if folder == default_folder() else f"{CACHE_VARIABLE}={folder.resolve()} "
    command = f"{where}emotion-runtime --bundle {bundle} --source demo --backend {builder.flavor}"
    if builder.ahead_of_time:
        return f"on a GPU of {','.join(targets_of(builder.gpu.compute_capability))}, {command}"
    return command


def output_folder(out: Path) -> Path:
    """Create the folder of --out and check that it is writable, before a build of several minutes."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise EmotionError(
            f"--out {out} is not writable ({error.strerror}): choose another folder"
        ) from error
    return out


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog=PROGRAM, description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bundle", help="name of a shipped bundle, or a folder")
    add("--detector", metavar="face|FILE.onnx|none", help="detector to build (default: face)")
    sizes = " and ".join(f"{width}x{height}" for width, height in FRAME_SIZES)
    add(
        "--frame-size",
        type=frame_size,
        action="append",
        metavar="WxH",
        help=f"size of frames for which the detector is built; may be given several times (default: {sizes})",
    )
    add(
        "--detector-size",
        type=detector_size,
        default="auto",
        metavar="auto|N",
        help="long side in pixels to which the detector resizes a frame, as for emotion-runtime (default: "
        "auto)",
    )
    add(
        "--flavor",
        choices=FLAVORS,
        default="tensorrt",
        help="TensorRT, or TensorRT for RTX (default: %(default)s)",
    )
    add(
        "--precision",
        choices=("ladder", "fp16", "fp32", "int8"),
        default="ladder",
        help="numeric precision of the engines; ladder: fp16, mixed or fp32, whichever first passes the "
        "parity check (default: ladder)",
    )
    add(
        "--target",
        metavar="SM86,...",
        help="architectures to build one engine for, without a GPU; needs --flavor rtx (default: this GPU)",
    )
    _add_limits(parser)
    place = parser.add_mutually_exclusive_group()
    for name, text in (
        ("--cache", "folder of the engine cache (default: that of the runtime)"),
        ("--out", "write the engines to this folder instead of the cache"),
    ):
        place.add_argument(name, type=Path, metavar="DIR", help=text)
    return parser


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    most = "maximum number of people per inference call (default: %(default)s)"
    add("--max-persons", type=int, default=16, help=most)
    add(
        "--max-frames",
        type=int,
        help="maximum number of images per inference call (default: one for each person if the model sees a "
        "crop per person, else 4)",
    )
    scratch = "maximum scratch memory in MiB (default: %(default)s)"
    add("--workspace", type=int, default=1024, metavar="MIB", help=scratch)
