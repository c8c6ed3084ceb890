"""Run the command line as `python -m emotion_runtime`."""

import sys

from emotion_runtime.cli import main

if __name__ == "__main__":
    sys.exit(main())
