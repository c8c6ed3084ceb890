"""The command `emotion-export`: ONNX bundles, TensorRT engines and Triton repositories.

Exit status: 0 done; 2 an error that the user can fix, in one line; 130 stopped by Ctrl-C; 1 a bug, with its
traceback.
"""

import argparse
import sys
from collections.abc import Sequence

from emotion_runtime.console import CommandGroup
from emotion_train.cli import EXTRA as TRAIN_EXTRA

COMMANDS = {
    "onnx": "export a checkpoint, a detector or a text tower to ONNX, or add precisions to a bundle",
    "trt": "build TensorRT engines from a bundle and check them on this GPU",
    "triton": "write a bundle as a model repository of NVIDIA's Triton Inference Server",
}

# What the extra `export` installs and `onnx` needs: names of modules, and of the packages that bring them.
EXTRA = {**TRAIN_EXTRA, "onnxscript": "onnxscript", "onnx_ir": "onnxscript"}

_GROUP = CommandGroup(
    program="emotion-export",
    description="Export a trained model to ONNX, to TensorRT engines or to a Triton model repository.",
    package="emotion_export.commands",
    commands=COMMANDS,
    extra="export",
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
