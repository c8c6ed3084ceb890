"""Run the paper's ablation at small scale: subject methods, losses and temporal encoders.

    python benchmarks/bench_ablation.py

Every row is one training on the same scenes for the same number of steps, from the same warm start, and one
linear probe on scenes of unseen faces. A scene holds one to four people who share a crop, so that only the
patch weights tell which of them is the subject. With several people, only scenes of different emotions
count: there a model that does not use the subject must fail. Finished rows are not run again. Writes
ablation.json, ablation.md and ablation.png into --results.

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

import msgspec
import numpy as np
import torch
from tqdm import tqdm

from emotion_bench.ablation import write_results
from emotion_bench.ablation_page import METHODS, SWEEP
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
        bias = "-bias" if self.bias else ""
        return f"{self.subject}{bias}-beta{self.beta:g}-{self.temporal}-seed{self.seed}"


def all_rows() -> list[Row]:
    """Return the subject methods, the grid of losses and temporal encoders, and the sweep of beta."""
    learning = [("none", False), ("saam", False), ("sap", True), ("shared", True)]
    main = [Row(*way, seed=seed) for seed in range(SEEDS) for way in METHODS]
    grid = [
        Row(*way, beta=beta, temporal=temporal)
        for beta, temporal in ((0.0, "transformer"), (SNCE_BETA, "mean"), (0.0, "mean"))
        for way in learning
    ]
    sweep = [Row("sap", bias=True, beta=beta) for beta in SWEEP]
    return [*main, *grid, *sweep]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add, results = parser.add_argument, ROOT / "benchmarks" / "results" / "ablation"
    add("--data", type=Path, default=ROOT.parent / "shared", help="folder with faces and sentences")
    add("--out", type=Path, default=ROOT / "runs" / "ablation", help="folder of the runs")
    add("--results", type=Path, default=results, help="folder of table and plot")
    add("--steps", type=int, default=400, help="number of steps of every row (default 400)")
    add("--warm-steps", type=int, default=1500, help="steps of the shared warm start (default 1500)")
    add("--precision", choices=["fp32", "bf16"], default="bf16", help="numeric precision")
    return run("bench_ablation", partial(ablate, parser.parse_args(argv)))


def ablate(args: argparse.Namespace) -> None:
    """Warm up, then train and measure every missing row; write the results after each."""
    rows = all_rows()
    settings = {name: getattr(args, name) for name in ("steps", "warm_steps", "precision")}
    data = None
    check_settings(args.out, settings)
    for index, row in enumerate(rows, start=1):
        done = args.out / row.name / "measured.json"
        if done.is_file():
            continue
        print(f"bench_ablation: row {index} of {len(rows)}: {row.name}")
        data = data or load_scene_data(args.data, "linear")
        train_row(row, args, data, warm_start(args, data))
        measured = measure(args.out / row.name / CHECKPOINT, args)
        write_atomically(done, json.dumps({"row": vars(row), **measured}))
        write_results(args.out, args.results, settings=settings, beta=SNCE_BETA)
    write_results(args.out, args.results, settings=settings, beta=SNCE_BETA)


def check_settings(out: Path, settings: dict[str, object]) -> None:
    """Refuse a folder of rows with other settings, which must not share a table with these."""
    path = out / "settings.json"
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise EmotionError(f"{out} holds rows with other settings, see {path.name}: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))


def config_of(args: argparse.Namespace, **changes: object) -> PretrainConfig:
    """Return the configuration that all runs share, with the given changes."""
    common = PretrainConfig(
        preset="nano",
        precision=args.precision,
        workers=1,
        text_warmup=TextWarmup(steps=max(args.warm_steps // 5, 1), batch=128),
    )
    return msgspec.structs.replace(common, **changes)


def warm_start(args: argparse.Namespace, data: SceneData) -> Path:
    """Train text tower and stem once, since without it a small model keeps predicting the largest class."""
    out = args.out / "warm"
    # Faces of about the size that they have in a scene of two or three people.
    stem = StemWarmup(steps=args.warm_steps, batch=128, size=36)
    take(config_of(args, stem_warmup=stem, model=SIZES), out, data)
    return Path(out / CHECKPOINT)


def train_row(row: Row, args: argparse.Namespace, data: SceneData, start: Path) -> None:
    """Train one row to its end."""
    config = config_of(
        args,
        text_warmup=None,
        start=Start(checkpoint=str(start)),
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
    take(config, args.out / row.name, data)


def take(config: PretrainConfig, out: Path, data: SceneData) -> None:
    """Train a run to its end, from its checkpoint if there is one."""
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = model_config(config.preset, config.model)
    resume = (out / CHECKPOINT).exists()
    Run(config, sizes, data=data, out=out, world=World(device=device), resume=resume).train()


def measure(checkpoint: Path, args: argparse.Namespace) -> dict[str, object]:
    """Predict unseen faces with a linear probe; return labels, predictions and scenes by size of crowd."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  (slow to import)

    model = model_from_checkpoint(checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")
    archive = args.data / FACES_FILE
    train, test = (load_faces(archive, split) for split in ("train", "test"))
    rng = np.random.default_rng(2022)
    train = train.take(rng.permutation(len(train.labels))[:PROBE_FACES])
    test = test.take(rng.permutation(len(test.labels)))
    features, labels, _ = crowd_features(model, train, (1, 2, 3, 4), seed=1)
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
