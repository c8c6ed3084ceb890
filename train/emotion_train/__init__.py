"""Model, losses, data, probes. Imports `emotion_runtime` for preprocessing, never the reverse."""
