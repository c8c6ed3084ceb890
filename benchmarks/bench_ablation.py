"""Run the paper's ablation at small scale: subject methods, losses and temporal encoders.

    python benchmarks/bench_ablation.py

Every row is one training on the same scenes for the same number of steps, from the same warm start, and one
linear probe on scenes of unseen faces. A scene holds one to four people who share a crop, so that only the
patch weights tell which of them is the subject. With several people, only scenes of different emotions
count: there a model that does not use the subject must fail. Finished rows are not run again. Writes
ablation.json, ablation.md and ablation.png into --out.

Scenes of one person are there for completeness and are not an upper bound: the crop follows the heads, so a
single face fills it, at a scale that the warm start has not seen. The accuracy of `none` is what a model
reaches that uses the image alone.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from emotion_bench.ablation import write_results
from emotion_bench.ablation_page import METHODS, SWEEP
from emotion_bench.report import results_parser
from emotion_runtime.console import run
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_train.checkpoint import model_from_checkpoint
from emotion_train.model import EmotionCLIP
from emotion_train.probing.features import encode_all
from emotion_train.probing.torch_encoder import TorchEncoder
from emotion_train.scenes.batches import SceneMix
from emotion_train.scenes.faces import FACES_FILE, Faces, load_faces
from emotion_train.scenes.sets import shared_crop_clips
from emotion_train.scenes.training_data import SceneData, load_scene_data
from emotion_train.training.config import PretrainConfig, Start
from emotion_train.training.config_files import model_config
from emotion_train.training.parallel import World
from emotion_train.training.run import CHECKPOINT, Run
from emotion_train.training.stage_config import Scenes, StemWarmup, TextWarmup

ROOT = Path(__file__).resolve().parents[1]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

# A quarter of nano's vision tower: a run takes minutes on one core, and every row has the same.
SIZES = {
    "preprocess": {"beyond_frame": False},
    "vision_width": 128,
    "vision_layers": 3,
    "vision_heads": 4,
    "embed_dim": 128,
    "temporal_heads": 4,
    "temporal_ff": 256,
    "text_width": 128,
    "text_heads": 4,
}
MIX = SceneMix(people=(0.25, 0.4, 0.2, 0.15), face_height=(0.3, 0.5), shared_crop=1.0, aspect=(1.0, 1.15))
SNCE_BETA = 1.0  # as in the shipped recipe: the linear sentiment model is milder than the paper's
CROWDS = {"one person": (1,), "two people": (2,), "three or four": (3, 4)}
PROBE_C = 3.16  # the paper's value for BoLD
PROBE_FACES = 2000
ALONE_FACES = 800  # faces in scenes of one person, which need the most images per person
LR, SEEDS = 1e-3, 3


@dataclass(frozen=True)
class Row:
    """One row of the table: a method and a seed."""

    subject: str
    bias: bool = False
    beta: float = SNCE_BETA
    temporal: str = "transformer"
    seed: int = 0

    @property
    def name(self) -> str:
        """A unique name, also the name of the row's folder."""
        return "-".join(f"{name}={value}" for name, value in vars(self).items())


def all_rows() -> list[Row]:
    """Return the subject methods, the grid of losses and temporal encoders, and the sweep of beta."""
    learning = (("none", False), ("saam", False), ("sap", True), ("shared", True))
    others = ((0.0, "transformer"), (SNCE_BETA, "mean"), (0.0, "mean"))
    return [
        *(Row(*way, seed=seed) for seed in range(SEEDS) for way in METHODS),
        *(Row(*way, beta=beta, temporal=temporal) for beta, temporal in others for way in learning),
        *(Row("sap", bias=True, beta=beta) for beta in SWEEP),
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = results_parser(__doc__, "ablation")
    add = parser.add_argument
    add("--data", type=Path, default=ROOT.parent / "shared", help="folder with faces and sentences")
    add("--runs", type=Path, default=ROOT / "runs" / "ablation", help="folder of the runs")
    add("--steps", type=int, default=400, help="number of steps of every row (default 400)")
    add("--warm-steps", type=int, default=1500, help="steps of the shared warm start (default 1500)")
    add("--precision", choices=["fp32", "bf16"], default="bf16", help="numeric precision")
    return run("bench_ablation", partial(ablate, parser.parse_args(argv)))


def ablate(args: argparse.Namespace) -> None:
    """Warm up, then train and measure every missing row; write the results after each."""
    rows = all_rows()
    settings = {name: getattr(args, name) for name in ("steps", "warm_steps", "precision")}
    path = args.runs / "settings.json"
    if path.is_file() and json.loads(path.read_text()) != settings:  # must not share a table with these
        raise EmotionError(f"{path} has other settings than these: choose another folder as --runs")
    write_atomically(path, json.dumps(settings))
    data = None
    for index, row in enumerate(rows, start=1):
        done = args.runs / row.name / "measured.json"
        if not done.is_file():
            print(f"bench_ablation: row {index} of {len(rows)}: {row.name}")
            data = data or load_scene_data(args.data, "linear")
            warm = warm_start(args, data)
            measured = measure(train(row_config(row, args, warm), args.runs / row.name, data), args.data)
            write_atomically(done, json.dumps({"row": vars(row), **measured}))
        write_results(args.runs, args.out, settings=settings, beta=SNCE_BETA)


def warm_start(args: argparse.Namespace, data: SceneData) -> Path:
    """Train text tower and stem once, since without it a small model keeps predicting the largest class."""
    config = PretrainConfig(
        preset="nano",
        precision=args.precision,
        workers=1,
        text_warmup=TextWarmup(steps=max(args.warm_steps // 5, 1), batch=128),
        # Faces of about the size that they have in a scene of two or three people.
        stem_warmup=StemWarmup(steps=args.warm_steps, batch=128, size=36),
        model=SIZES,
    )
    return train(config, args.runs / "warm", data)


def row_config(row: Row, args: argparse.Namespace, warm: Path) -> PretrainConfig:
    """Return the configuration of one row, which starts from the checkpoint of the warm start."""
    return PretrainConfig(
        preset="nano",
        precision=args.precision,
        workers=1,
        start=Start(checkpoint=str(warm)),
        seed=1000 + row.seed,
        model={**SIZES, "subject": row.subject, "subject_bias": row.bias, "temporal": row.temporal},
        scenes=Scenes(
            steps=args.steps,
            scenes_per_batch=24,
            lr=LR,
            beta=row.beta,
            distinct_frames=(1, 1, 1, 2),
            people=MIX.people,
            face_share=MIX.face_height,
            one_picture=MIX.shared_crop,
            aspect=MIX.aspect,
        ),
    )


def train(config: PretrainConfig, out: Path, data: SceneData) -> Path:
    """Train a run to its end, from its checkpoint if there is one; return its checkpoint."""
    torch.manual_seed(config.seed)
    world, checkpoint = World(device=torch.device(DEVICE)), out / CHECKPOINT
    sizes, resume = model_config(config.preset, config.model), checkpoint.exists()
    Run(config, sizes, data=data, out=out, world=world, resume=resume).train()
    return checkpoint


def measure(checkpoint: Path, data: Path) -> dict[str, object]:
    """Predict unseen faces with a linear probe; return labels, predictions and scenes by size of crowd."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  (slow to import)

    model = model_from_checkpoint(checkpoint).to(DEVICE)
    fitted, test = (load_faces(data / FACES_FILE, split) for split in ("train", "test"))
    rng = np.random.default_rng(2022)
    fitted = fitted.take(rng.permutation(len(fitted.labels))[:PROBE_FACES])
    test = test.take(rng.permutation(len(test.labels)))
    features, labels, _ = crowd_features(model, fitted, (1, 2, 3, 4), seed=1)
    probe = LogisticRegression(C=PROBE_C, max_iter=2000, random_state=2022).fit(features, labels)
    crowds = {}
    for index, (name, people) in enumerate(CROWDS.items()):
        faces = test.take(np.arange(len(test.labels))[:ALONE_FACES]) if people == (1,) else test
        features, labels, scenes = crowd_features(model, faces, people, seed=2 + index)
        crowds[name] = {"labels": labels, "answers": probe.predict(features).tolist(), "scenes": scenes}
    shifts = [p.detach().sigmoid().mean().item() for n, p in model.named_parameters() if "subject_shift" in n]
    return {"crowds": crowds, "shift": shifts}


def crowd_features(
    model: EmotionCLIP, faces: Faces, people: tuple[int, ...], *, seed: int
) -> tuple[np.ndarray, list[int], list[int]]:
    """Encode every person of scenes with a shared crop.

    Returns:
        Features (N, D) float32, L2-normalised; the class and the scene of each person. People of a scene are
        resampled together.
    """
    crops = shared_crop_clips(faces, model.config.preprocess, MIX, people, frames=1, seed=seed)
    shown = [(scene, clip) for scene, (_, clips) in enumerate(crops) for clip in clips]
    waiting = enumerate(tqdm(shown, desc=f"{people} people", unit="person"))
    inputs = ((row, clip.images, clip.patch_weights) for row, (_, clip) in waiting)
    _, features = encode_all(TorchEncoder(model), inputs)
    return features, [clip.label for _, clip in shown], [scene for scene, _ in shown]


if __name__ == "__main__":
    sys.exit(main())
