"""Look at all photos of a folder.

python examples/photos.py FOLDER
"""

import sys
from pathlib import Path

from emotion_runtime import EmotionError, EmotionRuntime

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))

runtime = EmotionRuntime()  # loads the models once, for all photos
for path in paths:
    try:
        people = runtime.look(path)  # an image (height, width, 3) uint8 BGR would do as well
    except EmotionError as error:  # a damaged file: one sentence that says what is wrong
        print(error)
        continue
    print(f"{path.name}: {len(people)} people")
    for person in people:
        # `why` says why there is no label: the face may be too small, blurred or turned away.
        label = f"{person.top} {person.confidence:.0%}" if person.top else f"no label ({person.why})"
        print(f"  at {[round(side) for side in person.box]}: {label}")
