"""Measure what each part of the shipped model's recipe contributes, in short runs that add one part each.

    python benchmarks/bench_recipe.py --data ../shared --warm runs/nano/warm.pt    # 20 minutes on two cores

--warm is a checkpoint of train/configs/nano.toml at the end of its stage `stem`. All rows see the same number
of scenes from the same seeds and are measured by a probe on faces of the *validation* split, since a recipe
must not be chosen on test faces. Written to --out: recipe.json, recipe.md.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from emotion_bench.accuracy import metrics
from emotion_bench.accuracy_sets import Numbered, Plan, aligned_faces, scenes
from emotion_bench.machine import card
from emotion_bench.report import write_json
from emotion_runtime.defaults import CLIP_SECONDS
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.heads import activate
from emotion_train.checkpoint import load_checkpoint
from emotion_train.model import PRESETS, EmotionCLIP
from emotion_train.probing.classifiers import fit_logistic
from emotion_train.probing.features import encode_all
from emotion_train.probing.torch_encoder import TorchEncoder
from emotion_train.scenes.faces import FACES_FILE, Faces, Split, load_faces
from emotion_train.scenes.sets import person_pair
from emotion_train.scenes.training_data import SceneData, load_scene_data
from emotion_train.tables import markdown_table, percent
from emotion_train.training.config import PretrainConfig, Scenes
from emotion_train.training.config_files import load_config
from emotion_train.training.parallel import World
from emotion_train.training.run import Run

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "train" / "configs" / "nano.toml"
SEED = 2022
PROBE_FACES, PROBE_C = 2000, 3.16
# Each row adds parts to the row before; the last is the whole recipe. Values are keys of [scenes].
STAGES: dict[str, tuple[str, ...]] = {
    "contrastive alone, ordinary scenes": (),
    "+ supervised term": ("supervised",),
    "+ half of its targets from the stem": ("stem_answers",),
    "+ degraded images and close-ups": ("poor", "close_ups"),
    "+ several people in a shared crop": ("one_picture",),
}
TITLES = {
    "scenes": "scenes",
    "poor_scenes": "degraded scenes",
    "tight_faces": "aligned face crops",
    "one_picture": "two people in a shared crop",
}


_PAGE = """# What each part of nano's recipe contributes

    python benchmarks/bench_recipe.py --data DIR --warm FILE

Accuracy of a probe on validation faces after {steps} steps from the same warm stem, with 95 % intervals
over faces. There is one seed, so differences of a point or two mean little. Each row adds something to the
row above.

{table}
"""


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="bench_recipe", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with data/fer2013_plus.npz and sentences")
    add("--warm", type=Path, required=True, help="checkpoint at the end of the stage stem")
    add("--steps", type=int, default=300, help="number of steps of every row (default 300)")
    add("--val-faces", type=int, help="number of validation faces (default: all)")
    add("--runs", type=Path, default=ROOT / "runs" / "recipe", help="folder of the runs")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "nano", help="folder of the results")
    args = parser.parse_args(argv)
    try:
        result = compare(args)
    except EmotionError as error:
        print(f"bench_recipe: error: {error}", file=sys.stderr)
        return 2
    text = page(result)
    write_json(args.out / "recipe.json", result)
    write_atomically(args.out / "recipe.md", text)
    print(text)
    return 0


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Train and measure every row; return the content of recipe.json."""
    recipe = load_config(CONFIG)
    data = load_scene_data(args.data, recipe.sentiment)
    archive = args.data / FACES_FILE
    rows: dict[str, Any] = {}
    parts: set[str] = set()
    for index, (name, more) in enumerate(STAGES.items()):
        print(f"bench_recipe: {name}", flush=True)
        parts.update(more)
        model = train(config_of(recipe, parts, args.steps), data, args.runs / str(index), args.warm)
        rows[name] = measure(model, archive, args.val_faces)
    return {"benchmark": "recipe", "machine": card(), "steps": args.steps, "rows": rows}


def config_of(recipe: PretrainConfig, parts: set[str], steps: int) -> PretrainConfig:
    """Return the recipe with only some of its parts and with fewer steps."""
    if recipe.scenes is None:
        raise EmotionError(f"{CONFIG} has no [scenes]")
    plain = Scenes(steps=1)
    switched = {name for names in STAGES.values() for name in names}
    off = {name: getattr(plain, name) for name in switched - parts}
    return msgspec.structs.replace(
        recipe, text_warmup=None, scenes=msgspec.structs.replace(recipe.scenes, steps=steps, **off)
    )


def train(config: PretrainConfig, data: SceneData, out: Path, warm: Path) -> EmotionCLIP:
    """Train the stage `scenes` of a configuration from a warm start."""
    state = load_checkpoint(warm)
    if state["stage"] != "stem":
        raise EmotionError(
            f"--warm {warm} is in stage {state['stage']}: expected a checkpoint at the end of the stage stem"
        )
    torch.manual_seed(config.seed)
    for file in out.glob("checkpoint.pt"):
        file.unlink()
    run = Run(config, PRESETS[config.preset], data=data, out=out, world=World(), resume=False)
    run.begin_at("scenes", state)
    run.train()
    return run.model.eval()


def measure(model: EmotionCLIP, archive: Path, limit: int | None) -> dict[str, Any]:
    """Return the metrics of a probe on validation faces, by test set."""
    fitted = _encoded(model, scenes(_plan(model, archive, "train", PROBE_FACES), degraded=False))
    weight, bias = fit_logistic(*fitted, c=PROBE_C, seed=SEED)
    plan = _plan(model, archive, "val", limit)
    sets = {
        "scenes": scenes(plan),
        "poor_scenes": scenes(plan, degraded=True),
        "tight_faces": aligned_faces(plan),
        "one_picture": two_in_shared_crop(plan),
    }
    result = {}
    for name, clips in sets.items():
        features, labels = _encoded(model, clips)
        result[name] = metrics(activate(features @ weight.T + bias, "softmax"), labels, resamples=1000)
    return result


def two_in_shared_crop(plan: Plan) -> Iterator[Numbered]:
    """Yield two people of different emotions in a shared crop: only the patch weights tell them apart."""
    for rendered in plan.rendered_clips((2,)):
        pair = person_pair(rendered, plan.faces, plan.spec, same_window=True)
        for clip in pair or ():
            yield 2, clip


def _plan(model: EmotionCLIP, archive: Path, split: Split, limit: int | None) -> Plan:
    faces: Faces = load_faces(archive, split)
    rows = np.random.default_rng(SEED).permutation(len(faces.labels))[:limit]
    return Plan(faces.take(rows), model.config.preprocess, 1, CLIP_SECONDS, SEED)


def _encoded(model: EmotionCLIP, clips: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    given: list[Numbered] = list(clips)
    _, features = encode_all(
        TorchEncoder(model), ((row, clip.images, clip.patch_weights) for row, (_, clip) in enumerate(given))
    )
    return features, np.array([clip.label for _, clip in given], np.int64)


def page(result: dict[str, Any]) -> str:
    """Return recipe.md for a result."""
    lines = [
        (
            name,
            *(
                f"{percent(accuracy['value'])} ({100 * accuracy['low']:.1f}-{100 * accuracy['high']:.1f})"
                for accuracy in (row[key]["accuracy"] for key in TITLES)
            ),
        )
        for name, row in result["rows"].items()
    ]
    return _PAGE.format(steps=result["steps"], table=markdown_table(("", *TITLES.values()), lines))


if __name__ == "__main__":
    sys.exit(main())
