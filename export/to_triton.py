"""Write a bundle as a model repository of NVIDIA's Triton Inference Server."""

import sys

from emotion_export.commands.triton import main

if __name__ == "__main__":
    sys.exit(main())
