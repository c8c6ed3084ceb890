"""A configuration small enough for a test, and a labelled table of images to probe it on."""

from pathlib import Path

import numpy as np
from PIL import Image

PRETRAIN = Path(__file__).resolve().parents[2] / "train" / "pretrain.py"
PICTURES = 12  # of each split and class

TINY = """
preset = "vit-b-32"
workers = 0
seed = 3
[model]
vision_width = 32
vision_layers = 2
vision_heads = 4
embed_dim = 24
temporal_layers = 1
temporal_heads = 4
temporal_ff = 40
temporal = "mean"
text_width = 16
text_layers = 1
text_heads = 2
[model.preprocess]
size = 48
patch = 16
short_side = 60
"""
CLIPS = """
[clips]
epochs = 2
batch = {batch}
lr = 1e-2
vector_lr = 1e-2
warmup = 2
warmup_start = 0.1
"""


def write_table(folder: Path) -> Path:
    """Pictures of two classes that any encoder tells apart: dark and bright."""
    folder.mkdir()
    rows = ["path,split,label"]
    for split in ("train", "val"):
        for label, level in (("dark", 20), ("bright", 220)):
            for number in range(PICTURES):
                name = f"{split}-{label}-{number}.png"
                rng = np.random.default_rng([number, level, len(split)])
                pixels = rng.integers(level - 20, level + 20, (60, 80, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / name)
                rows.append(f"{name},{split},{label}")
    table = folder / "table.csv"
    table.write_text("\n".join(rows))
    return table
