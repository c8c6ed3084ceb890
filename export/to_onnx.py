"""Export to ONNX: a checkpoint as a bundle, more precisions for a bundle, a detector, a text tower."""

import sys

from emotion_export.commands.onnx import main

if __name__ == "__main__":
    sys.exit(main())
