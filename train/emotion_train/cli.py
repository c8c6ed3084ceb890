"""The command `emotion-train`: pre-training, data preparation, probes and figures.

Each command is a module of `emotion_train.commands`. It is imported only when it is called, so that `--help`
answers at once, and a package that is not installed is reported by name.

Exit status: 0 done; 2 an error that the user can fix, in one line; 1 a bug, with its traceback.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from emotion_runtime import __version__, console
from emotion_runtime.errors import EmotionError

COMMANDS = {
    "pretrain": "pre-train EmotionCLIP on rendered scenes or on clips of video",
    "prepare-data": "turn videos and captions into shards for pre-training",
    "fit-probe": "fit linear probes on a checkpoint and measure them on unseen data",
    "evaluate": "measure fitted heads, or classes from text alone, on a labelled data set",
    "figures": "draw the figures of the paper from a checkpoint",
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        argv: The arguments without the program's name. None: those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = next((name for name in COMMANDS if arguments[:1] == [name]), "")
    if not command:
        return console.run("emotion-train", lambda: _help(arguments))
    program = f"emotion-train {command}"
    console.print_messages(program)
    return console.run(program, lambda: _run(command, arguments[1:]))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line up to the command's name."""
    parser = console.OneLineParser(
        prog="emotion-train",
        description="Train EmotionCLIP, prepare data for it, and measure what it has learned.",
        epilog="\n".join(["commands:", *(f"  {name:<14}{what}" for name, what in COMMANDS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _help(arguments: list[str]) -> None:
    """Print the help or the version and exit, or raise what is wrong with the arguments."""
    parser().parse_args(arguments)


def _run(command: str, arguments: list[str]) -> int:
    """Import a command and run it.

    Raises:
        EmotionError: A package of the extra is not installed, or the command raised it.
    """
    try:
        module = import_module(f"emotion_train.commands.{command.replace('-', '_')}")
        status: int = module.main(arguments)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        raise EmotionError(
            f"the package {EXTRA[missing]} is not installed; it comes with the extra `train`: run "
            "pip install '.[train]' in a checkout"
        ) from error
    return status
