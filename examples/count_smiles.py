"""Count how often each person starts to smile.

python examples/count_smiles.py [SOURCE] [FRAMES]

SOURCE is a video file, a camera number, or `demo`, which needs neither.
"""

import sys
from collections import Counter
from itertools import islice

from emotion_runtime import EmotionRuntime

source = sys.argv[1] if len(sys.argv) > 1 else "demo"
frames = int(sys.argv[2]) if len(sys.argv) > 2 else None  # None: all frames

smiles: Counter[int] = Counter()  # by the id of the person
label_before: dict[int, str | None] = {}

# One event per frame. `stream` opens the source, and closes it at the end.
with EmotionRuntime().stream(source) as stream:
    for event in islice(stream, frames):
        for person in event.persons:
            if person.state == "lost":  # not in this frame; the label is that of a moment ago
                continue
            # `top` is the label to show. It is None while no emotion is likely enough.
            if person.top == "happiness" and label_before.get(person.id) != "happiness":
                smiles[person.id] += 1
                print(f"{event.t:6.2f} s  person {person.id} starts to smile")
            label_before[person.id] = person.top

print(f"{sum(smiles.values())} smiles of {len(label_before)} people")
