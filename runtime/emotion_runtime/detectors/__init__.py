"""Detectors, one file each; `emotion_runtime.detector` chooses among them."""
