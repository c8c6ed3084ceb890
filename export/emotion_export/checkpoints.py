"""The checkpoint a bundle is made of: one of ours, or the released weights; probes read it the same way."""

from emotion_train.pretrained import Checkpoint, read_checkpoint

__all__ = ["Checkpoint", "read_checkpoint"]
