"""The model, for example `EmotionCLIP(PRESETS["nano"])`."""

from emotion_train.model.config import PRESETS, ModelConfig
from emotion_train.model.emotion_clip import EmotionCLIP

__all__ = ["PRESETS", "EmotionCLIP", "ModelConfig"]
