"""Compare the shipped bundle with another network on the same test faces, by what people see in them.

    python benchmarks/bench_peers.py --data ../shared --peer ../shared/peers/human_emotion.onnx

The peer is an ONNX file with one input (n, 64, 64, 1) of grey levels in [-1, 1] and seven probabilities in
the order of `PEER_LABELS`. It sees the aligned crops at the width that suits it best on validation faces;
the bundle sees the crops as images of one person, as in bench_accuracy.py. The label of a face is the
emotion that more than half of ten annotators see. Prints and writes the accuracy of both, calm faces called
angry, sad or afraid, and the paired difference with its bootstrap interval.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from emotion_bench.accuracy import CALM, NEGATIVE
from emotion_bench.accuracy_sets import Plan, aligned_faces
from emotion_bench.predictions import Predictor
from emotion_bench.report import write_json
from emotion_runtime.errors import EmotionError
from emotion_train.language.labels import EKMAN, ekman_index
from emotion_train.scenes.faces import FACES_FILE, Faces, load_faces

PEER_LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
PEER_SIDE = 64
WIDTHS = (0.8, 0.9, 1.0, 1.1, 1.25)  # of the crop that the peer sees, in sides of the aligned crop
RESAMPLES = 2000


def main(argv: list[str] | None = None) -> int:
    """Run the comparison and return the exit status."""
    parser = argparse.ArgumentParser(prog="bench_peers", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {FACES_FILE.as_posix()}")
    parser.add_argument("--peer", type=Path, required=True, help="ONNX file of the other network")
    parser.add_argument("--bundle", default="nano", help="bundle name or folder (default nano)")
    parser.add_argument("--out", type=Path, help="JSON file of the result (default: none)")
    args = parser.parse_args(argv)
    try:
        val, test = (_clear(load_faces(args.data / FACES_FILE, split)) for split in ("val", "test"))
    except EmotionError as error:
        print(f"bench_peers: error: {error}", file=sys.stderr)
        return 2
    session = onnxruntime.InferenceSession(str(args.peer), providers=["CPUExecutionProvider"])
    on_val = {width: float((_peer(session, val, width) == val.labels).mean()) for width in WIDTHS}
    width = max(on_val, key=lambda each: on_val[each])
    predictor = Predictor(args.bundle, heads=("probe",))
    ours = predictor.predictions(aligned_faces(Plan(test, predictor.manifest.preprocess, 1, 1.6, 0)))
    result = compare(ours.probabilities["probe"].argmax(1), _peer(session, test, width), test.labels)
    result |= {"peer": args.peer.name, "peer_width": width, "faces": len(test.labels)}
    for name, value in result.items():
        print(f"{name}: {value}")
    if args.out:
        write_json(args.out, result)
    return 0


def compare(ours: NDArray[np.int64], peer: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, object]:
    """Return the metrics of two predictions (N,) for the same faces, and their differences with intervals."""
    draws = np.random.default_rng(0).integers(0, len(labels), (RESAMPLES, len(labels)))
    calm = np.isin(labels, [EKMAN.index(name) for name in CALM])
    negative = [EKMAN.index(name) for name in NEGATIVE]

    def balanced(right: NDArray[np.bool_], rows: NDArray[np.int64]) -> float:
        recalls = [right[rows][labels[rows] == c].mean() for c in np.unique(labels[rows])]
        return float(np.mean(recalls))

    result: dict[str, object] = {}
    for name, chosen in (("bundle", ours), ("peer", peer)):
        right = chosen == labels
        result[f"{name}_accuracy"] = round(float(right.mean()), 4)
        result[f"{name}_balanced_accuracy"] = round(balanced(right, np.arange(len(labels))), 4)
        result[f"{name}_calm_taken_for_negative"] = round(float(np.isin(chosen[calm], negative).mean()), 4)
    gain = (ours == labels).astype(float) - (peer == labels)
    between = np.quantile(gain[draws].mean(axis=1), (0.025, 0.975))
    result["accuracy_difference"] = [round(float(v), 4) for v in (gain.mean(), *between)]
    both = [balanced(ours == labels, rows) - balanced(peer == labels, rows) for rows in draws]
    result["balanced_difference_interval"] = [round(float(v), 4) for v in np.quantile(both, (0.025, 0.975))]
    return result


def _clear(faces: Faces) -> Faces:
    return faces.by_majority().take(np.flatnonzero(faces.clear))


def _peer(session: onnxruntime.InferenceSession, faces: Faces, width: float) -> NDArray[np.int64]:
    """Return the peer's classes (N,) in `EKMAN` order for crops of a width."""
    order = np.array([ekman_index(name) for name in PEER_LABELS])
    images = np.stack([_cut(image, width) for image in faces.images])[..., None]
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: images[i : i + 64]})[0] for i in range(0, len(images), 64)]
    return np.asarray(order[np.concatenate(parts).argmax(axis=1)])


def _cut(image: NDArray[np.uint8], width: float) -> NDArray[np.float32]:
    """Return a centred crop, (64, 64) float32 in [-1, 1]; beyond the image its border is repeated."""
    side = image.shape[0]
    scale = PEER_SIDE / (width * side)
    shift = PEER_SIDE / 2 - 0.5 - scale * (side / 2 - 0.5)
    matrix = np.array([[scale, 0, shift], [0, scale, shift]])
    cut = cv2.warpAffine(image, matrix, (PEER_SIDE, PEER_SIDE), borderMode=cv2.BORDER_REPLICATE)
    return (cut.astype(np.float32) / 127.5 - 1).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
