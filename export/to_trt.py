"""Build TensorRT engines from a bundle, one for each graph, and prove them on this device."""

import sys

from emotion_export.commands.trt import main

if __name__ == "__main__":
    sys.exit(main())
