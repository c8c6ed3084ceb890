"""Model, losses, data, probes. Imports `emotion_runtime` for preprocessing, never the reverse."""

import emotion_runtime  # noqa: F401 - first: it switches off the usage reports of libraries
