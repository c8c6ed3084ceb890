"""What the benchmarks share: side-by-side timing, limits of the machine, its description, models, reports."""

import emotion_runtime  # noqa: F401 - first: it switches off the usage reports of libraries
