"""Write one row per person and frame.

python examples/emotions_to_csv.py [SOURCE] [OUT.csv] [FRAMES]

The command writes a similar table: emotion-runtime --source people.mp4 --csv people.csv. This program
chooses columns of its own. It needs the standard library only. With pandas, the whole table is one line:

    table = emotion_runtime.to_dataframe(EmotionRuntime().stream("people.mp4"))
"""

import csv
import sys
from itertools import islice
from pathlib import Path

from emotion_runtime import EmotionRuntime

source = sys.argv[1] if len(sys.argv) > 1 else "demo"
path = Path(sys.argv[2] if len(sys.argv) > 2 else "emotions.csv")
frames = int(sys.argv[3]) if len(sys.argv) > 3 else None  # None: all frames

runtime = EmotionRuntime()
# `p_happiness` is the probability of happiness, and so on for each emotion that the model knows.
columns = ["t", "id", "state", "top", "confidence", *(f"p_{label}" for label in runtime.labels)]

with path.open("w", newline="", encoding="utf-8") as file, runtime.stream(source) as stream:
    # A row has more columns than these; `ignore` leaves the others out.
    table = csv.DictWriter(file, columns, extrasaction="ignore")
    table.writeheader()
    for event in islice(stream, frames):
        table.writerows(event.to_rows())

for name, found in runtime.summary().items():
    for person in found.persons:
        print(f"{name}: person {person.id} was seen for {person.seconds:.1f} s: {person.emotions}")
