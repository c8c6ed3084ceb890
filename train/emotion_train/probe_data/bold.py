"""BoLD: from the published videos to frames; tables and joints stay as they are.

What is published, BOLD_public, has annotations/{train,val}.csv, whose first column is a path such as
003/NAME.mp4/0114.mp4, videos/ with that path and joints/ with that path, ending in .npy. Sources:
dataset.py of github.com/filby89/NTUA-BEEU-eccv2020 and of github.com/GiannisPikoulis/FG2021-BoLD, which read
it as it is.
"""

from collections import Counter
from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import make_folder
from emotion_train.datasets.bold import SPLITS
from emotion_train.datasets.layout import Layout
from emotion_train.probe_data.clip_frames import frames_of, spread, write_image
from emotion_train.probe_data.shared import link, prepare_each

_FOLDERS = ("annotations", "joints", "videos")
_TREE = "--data with annotations/{train,val}.csv, joints/ and videos/, as in BOLD_public"


def prepare(data: Path, out: Path) -> Counter[str]:
    """Write the layout that `emotion_train.datasets.bold` reads; tables and joints are linked, not copied.

    A run that was stopped goes on with the clips that are missing. A video that cannot be read is left out
    and named; its rows are left out by the reader.

    Returns:
        The number of clips by outcome.

    Raises:
        EmotionError: A table or a folder is missing, or `out` cannot be written.
    """
    layout = Layout("bold", data, _TREE)
    tables = [layout.file("annotations", f"{split}.csv") for split in SPLITS]
    for name in _FOLDERS:
        if not (data / name).is_dir():
            raise EmotionError(f"bold: folder {data / name} is missing; expected {_TREE}")
    videos = {
        cells[0]: data / "videos" / cells[0] for table in tables for cells in layout.cells(table) if cells[0]
    }
    make_folder(out)
    link(data / "annotations", out / "annotations")
    link(data / "joints", out / "joints")
    return prepare_each(videos, lambda clip, video: _prepare_clip(video, out / "mmextract" / clip), "bold")


def _prepare_clip(video: Path, folder: Path) -> None:
    """Write eight frames; joints count frames from 1. A folder without a suffix is complete."""
    if folder.is_dir():
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    for number, image_bgr in frames_of(video, spread(video)):
        write_image(unfinished / f"image_{number + 1:05d}.jpg", image_bgr)
    if not unfinished.is_dir():  # the video changed between the two looks at it
        raise EmotionError(f"video {video} has no frames any more: do not change it meanwhile")
    unfinished.rename(folder)
