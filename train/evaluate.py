"""Measure a fitted head, or classes from text alone, on a labelled data set; nothing is fitted."""

import sys

from emotion_train.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
