"""Prepare videos and captions for pre-training: clips of a sentence each, in shards."""

import sys

from emotion_train.commands.prepare_data import main

if __name__ == "__main__":
    sys.exit(main())
