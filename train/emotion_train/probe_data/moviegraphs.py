"""MovieGraphs: from films of one's own to the frames of the annotated scenes and boxes of people.

The annotations are handed out without films: official/mg_videoinfo with the boundaries of shots and scenes,
and official/mg with a graph per scene. Which words of the graphs belong to which of the 26 groups is not part
of them: docs/datasets.md says how to write emotion_labels.json.
"""

import json
from collections import Counter
from pathlib import Path

from emotion_runtime.detectors import Detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import make_folder, write_atomically
from emotion_train.datasets.layout import Layout
from emotion_train.datasets.moviegraphs import TREE, frames_of_scenes, labelled_scenes
from emotion_train.probe_data.clip_frames import ClipBoxes, prepare_clip
from emotion_train.probe_data.shared import link, prepare_each


def prepare(data: Path, out: Path, detector: Detector) -> Counter[str]:
    """Write the layout that `emotion_train.datasets.moviegraphs` reads; the annotations are linked.

    A run that was stopped goes on with the films that are missing, and with those whose labels have changed.
    A film that cannot be read is left out and named; its scenes are left out by the reader.

    Args:
        data: Contains official/, and films/ with a video <movie>.<suffix> for each film.
        out: Folder to write.
        detector: Finds persons.

    Returns:
        The number of films by outcome.

    Raises:
        EmotionError: Labels or films are missing, or `out` cannot be written.
    """
    layout = Layout("moviegraphs", data, TREE.replace("frames/<movie>/frame_<n>.jpg", "films/<movie>.*"))
    scenes = labelled_scenes(layout)
    films = {path.stem: path for path in (data / "films").glob("*.*")}
    if not films:
        raise EmotionError(f"moviegraphs: {data / 'films'} has no videos; expected {layout.tree}")
    make_folder(out)
    link(data / "official", out / "official")
    boxes: dict[str, ClipBoxes] = {}

    def prepare_film(film: str, video: Path) -> None:
        frames = frames_of_scenes(layout, film, scenes[film])
        if not frames:
            raise EmotionError(
                f"none of its labelled scenes has boundaries below {data / 'official' / 'mg_videoinfo'}: "
                "compare the names of the files there with that of the film, and their scenes with the labels"
            )
        boxes[film] = prepare_clip(video, out / "frames" / film, detector, frames)

    outcomes = prepare_each({film: films.get(film) for film in scenes}, prepare_film, "moviegraphs")
    write_atomically(out / "all_human_boxes.json", json.dumps(boxes))
    return outcomes
