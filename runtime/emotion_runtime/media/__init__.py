"""The one reader of videos and photos, for the runtime and for training.

`media.video` reads videos, and `media.sound` copies their sound. Both load FFmpeg, so they are imported where
they are needed.
"""

from emotion_runtime.media.images import ImageError, is_image, read_image

__all__ = ["ImageError", "is_image", "read_image"]
