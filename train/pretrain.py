"""Pre-train EmotionCLIP."""

import sys

from emotion_train.commands.pretrain import main

if __name__ == "__main__":
    sys.exit(main())
