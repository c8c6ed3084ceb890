"""Figures of the paper from any checkpoint: of pretrain.py, or the released .pt file."""

import sys

from emotion_train.commands.figures import main

if __name__ == "__main__":
    sys.exit(main())
