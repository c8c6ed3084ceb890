"""The same as the command `emotion-train pretrain`, for use from a checkout."""

import sys

from emotion_train.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
