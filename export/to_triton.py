"""The same as the command `emotion-export triton`, for use from a checkout."""

import sys

from emotion_export.cli import main

if __name__ == "__main__":
    sys.exit(main(["triton", *sys.argv[1:]]))
