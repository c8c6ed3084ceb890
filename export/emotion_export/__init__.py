"""From a checkpoint to a bundle. Imports `emotion_train` and `emotion_runtime`, never the reverse."""
