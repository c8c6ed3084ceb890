"""Turn a frame and a person's box into the input of the frame encoder: a square crop and patch weights.

This is the only package that crops, resizes or turns boxes into patch weights. Training, export and runtime
all import it, so a model gets the same input in use as in training.
"""

from emotion_runtime.preprocess.crops import crop
from emotion_runtime.preprocess.patches import patch_weights, union_patch_weights
from emotion_runtime.preprocess.spec import MAX_SIDE, PreprocessSpec
from emotion_runtime.preprocess.windows import (
    BODY_ASPECT,
    HEAD_OF_BODY,
    Window,
    center_window,
    subject_window,
    surroundings,
    window_at,
)

__all__ = [
    "BODY_ASPECT",
    "HEAD_OF_BODY",
    "MAX_SIDE",
    "PreprocessSpec",
    "Window",
    "center_window",
    "crop",
    "patch_weights",
    "subject_window",
    "surroundings",
    "union_patch_weights",
    "window_at",
]
