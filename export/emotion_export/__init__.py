"""Export checkpoints to bundles and engines.

Imports `emotion_train` and `emotion_runtime`, never the reverse.
"""

import emotion_runtime  # noqa: F401 - first: it switches off the usage reports of libraries
