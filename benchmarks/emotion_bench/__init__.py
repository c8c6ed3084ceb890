"""What the benchmarks share: timing side by side, ceilings, the machine's card, models, reports."""

import emotion_runtime  # noqa: F401 - first: it switches off the usage reports of libraries
