"""Fit linear probes on a checkpoint's frozen features and say what they are worth on unseen data."""

import sys

from emotion_train.commands.fit_probe import main

if __name__ == "__main__":
    sys.exit(main())
