"""The command `emotion-train`: pre-training, data preparation, probes and figures.

Exit status: 0 done; 2 an error that the user can fix, in one line; 1 a bug, with its traceback.
"""

import argparse
import sys
from collections.abc import Sequence

from emotion_runtime.console import CommandGroup

COMMANDS = {
    "pretrain": "pre-train EmotionCLIP on rendered scenes or on clips of video",
    "prepare-faces": "build the file of labelled faces that rendered scenes are made from",
    "predict-votes": "predict the votes on faces, as better targets for pre-training",
    "prepare-data": "turn videos and captions into shards for pre-training",
    "prepare-probe": "prepare a labelled data set for fit-probe, from what its authors publish",
    "fit-probe": "fit linear probes on a checkpoint and measure them on unseen data",
    "evaluate": "measure fitted heads, or classes from text alone, on a labelled data set",
    "subgroups": "measure a bundle by columns of your own labelled table",
    "reproduce": "make a table or figure of the paper, with the paper's numbers beside",
    "figures": "draw where a model looks, and what the loss does to a batch",
}

# What the extra `train` installs: names of modules, and of the packages that bring them.
EXTRA = {
    "torch": "torch",
    "open_clip": "open_clip_torch",
    "transformers": "transformers",
    "sklearn": "scikit-learn",
    "scipy": "scipy",
    "threadpoolctl": "threadpoolctl",
    "matplotlib": "matplotlib",
    "tensorboard": "tensorboard",
    "fsspec": "fsspec[http]",
    "aiohttp": "fsspec[http]",
    "webvtt": "webvtt-py",
    "h5py": "h5py",
    "pyarrow": "pyarrow",
}


_GROUP = CommandGroup(
    program="emotion-train",
    description="Train EmotionCLIP, prepare data for it, and measure what it has learned.",
    package="emotion_train.commands",
    commands=COMMANDS,
    extra="train",
    extra_packages=EXTRA,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        argv: The arguments without the program's name. None: those of the process.
    """
    return _GROUP.main(argv)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line up to the command's name."""
    return _GROUP.parser()


if __name__ == "__main__":
    sys.exit(main())
