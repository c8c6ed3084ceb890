"""The same as the command `emotion-train fit-probe`, for use from a checkout."""

import sys

from emotion_train.cli import main

if __name__ == "__main__":
    sys.exit(main(["fit-probe", *sys.argv[1:]]))
