"""LIRIS-ACCEDE (MediaEval 2018): valence and arousal of films, second by second.

Source: paper Sec. 4.1, reference [5]; the layout is that of the authors' evaluation.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from emotion_train.datasets.base import Dataset, Sample, Task
from emotion_train.datasets.boxes import Detection, image_of_everyone
from emotion_train.datasets.frames import CLIP_FRAMES, image_size, is_image
from emotion_train.datasets.layout import Layout
from emotion_train.datasets.rows import BadRow, assemble, finite, whole

SPLITS = ("train", "test")
TASKS = (Task("va", "regression", ("valence", "arousal")),)

FrameDetections = dict[str, list[Detection]]  # by file name of the frame

_COLUMNS = ["Time", "Valence", "Arousal"]
_TREE = (
    "below --data: annotations/*/annotations/<movie>*.txt (tab-separated Time, Valence, Arousal; of test "
    "films in a folder with 'test' in its name), frames/<movie>.mp4/<8 digits>.jpg, "
    "bboxes/<movie>.mp4/human_boxes.json"
)


@dataclass(frozen=True, slots=True)
class _AnnotatedFilm:
    """A film.

    Attributes:
        name: Name of the film.
        folder: Folder of its frames.
        files: Names of the frames' files.
        boxes: Detections by file name.
        width: Width of every frame, pixels.
        height: Height of every frame, pixels.
    """

    name: str
    folder: Path
    files: frozenset[str]
    boxes: FrameDetections
    width: int
    height: int


AnnotatedSecond = tuple[
    _AnnotatedFilm | str, list[str]
]  # a film, or why it is unusable; the cells of the row


def load(root: Path, split: str) -> Dataset:
    """Load one split, film by film, each in time order.

    A row is a second of a film; the sample repeats its frame, number Time + 1, eight times. The subject is
    everyone in the frame. A group is a film. The film of an annotation file is the folder of frames with
    whose name (without .mp4) the file's name starts, up to an underscore or its end.

    Raises:
        EmotionError: The layout is another, or no row is usable.
    """
    layout = Layout("liris", root, _TREE)
    layout.check_split(split, SPLITS)

    def sample(row: AnnotatedSecond) -> Sample:
        film, cells = row
        if isinstance(film, str):
            raise BadRow(film)
        if len(cells) != len(_COLUMNS):
            raise BadRow(f"{len(cells)} columns instead of {len(_COLUMNS)}")
        time = whole(cells[0], "time")
        affect = finite(cells[1:], "valence or arousal")
        file = f"{time + 1:08d}.jpg"
        if file not in film.files:
            raise BadRow("missing frame")
        image = image_of_everyone(film.folder / file, film.boxes, film.width, film.height)
        return Sample(f"{split}/{film.name}/{time}", film.name, (image,) * CLIP_FRAMES, {"va": affect})

    data = assemble(layout, split, TASKS, _rows(layout, split), sample)
    return replace(data, samples=tuple(sorted(data.samples, key=_film_and_second)))


def _film_and_second(sample: Sample) -> tuple[str, int]:
    """Return the film and the second of a sample."""
    return sample.group, int(sample.key.rpartition("/")[2])


def _rows(layout: Layout, split: str) -> Iterator[AnnotatedSecond]:
    """Read the seconds of every film of a split."""
    names = {path.name.removesuffix(".mp4") for path in (layout.root / "frames").glob("*.mp4")}
    for table in sorted((layout.root / "annotations").glob("*/annotations/*.txt")):
        in_test = "test" in table.parts[-3].lower()
        if in_test != (split == "test"):
            continue
        header, *seconds = layout.cells(table, delimiter="\t") or [[]]
        if [name.strip() for name in header] != _COLUMNS:
            yield f"file without the columns {', '.join(_COLUMNS)}", header
            continue
        film = _film(layout, [name for name in names if f"{table.stem}_".startswith(f"{name}_")])
        yield from ((film, cells) for cells in seconds)


def _film(layout: Layout, names: list[str]) -> _AnnotatedFilm | str:
    """Return the film of an annotation file, or what is missing. names: films with which its name starts."""
    if not names:
        return "film without frames"
    name = max(names, key=len)
    folder = layout.root / "frames" / f"{name}.mp4"
    boxes_file = layout.root / "bboxes" / f"{name}.mp4" / "human_boxes.json"
    files = sorted(path.name for path in folder.iterdir() if is_image(path))
    if not files:
        return "film without frames"
    if not boxes_file.is_file():
        return "film without boxes"
    # The authors' file is a list of objects with one frame each; one object with all frames is accepted, too.
    stored = layout.json(boxes_file, list[FrameDetections] | FrameDetections)
    parts = stored if isinstance(stored, list) else [stored]
    boxes = {file: found for part in parts for file, found in part.items()}
    return _AnnotatedFilm(name, folder, frozenset(files), boxes, *image_size(folder / files[0]))
