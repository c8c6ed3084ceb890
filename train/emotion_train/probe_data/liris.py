"""LIRIS-ACCEDE (MediaEval 2018): from the published films and annotations to frames and boxes of people.

What is published has archives such as MEDIAEVAL18-DevSet-Part1-Valence_Arousal-annotations and
MEDIAEVAL18-TestSet-..., with annotations/MEDIAEVAL18_00_Valence-Arousal.txt (tab-separated Time, Valence,
Arousal, a row per second), and the films MEDIAEVAL18_00.mp4. Sources: Dellandrea et al., The MediaEval 2018
Emotional Impact of Movies Task, and public readers of the archives, which agree on names and columns.
"""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

from emotion_runtime.detectors import Detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import make_folder, write_atomically
from emotion_train.probe_data.clip_frames import frames_by_second, scaled_detections, write_image
from emotion_train.probe_data.shared import prepare_each

_SUFFIX = "_Valence-Arousal.txt"
_TEST = re.compile(r"(?<![a-z])test(set)?(?![a-z])", re.IGNORECASE)  # a word of its own: not in "latest"
_TREE = (
    f"below --data, at any depth: annotations <film>{_SUFFIX}, of test films in a folder named test or "
    "TestSet (MEDIAEVAL18-TestSet-...), and the films <film>.mp4"
)


def prepare(data: Path, out: Path, detector: Detector) -> Counter[str]:
    """Write the layout that `emotion_train.datasets.liris` reads, with the frame shown at each full second.

    A run that was stopped goes on with the films that are missing. A film that cannot be read is left out
    and named; its seconds are left out by the reader.

    Returns:
        The number of films by outcome.

    Raises:
        EmotionError: There are no annotations, or `out` cannot be written.
    """
    tables = {path.name.removesuffix(_SUFFIX): path for path in sorted(data.rglob(f"*{_SUFFIX}"))}
    if not tables:
        raise EmotionError(f"liris: no file *{_SUFFIX} below {data}; expected {_TREE}")
    for table in tables.values():
        in_test = any(_TEST.search(part) for part in table.relative_to(data).parts[:-1])
        folder = out / "annotations" / ("test" if in_test else "train") / "annotations"
        make_folder(folder)
        shutil.copyfile(table, folder / table.name)
    films = {path.stem: path for path in data.rglob("*.mp4")}
    return prepare_each(
        {film: films.get(film) for film in tables},
        lambda film, video: _prepare_film(film, video, out, detector),
        "liris",
    )


def _prepare_film(film: str, video: Path, out: Path, detector: Detector) -> None:
    """Write frames, numbered from 1, and boxes; a film with boxes is complete."""
    done = out / "bboxes" / f"{film}.mp4" / "human_boxes.json"
    if done.is_file():
        return
    boxes = {}
    for second, image_bgr in frames_by_second(video):
        name = f"{second + 1:08d}.jpg"
        write_image(out / "frames" / f"{film}.mp4" / name, image_bgr)
        boxes[name] = scaled_detections(detector, image_bgr)
    write_atomically(done, json.dumps(boxes))
