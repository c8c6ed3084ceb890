"""Emotic: from the authors' MATLAB file to the tables that the reader expects.

Annotations.mat has the arrays `train`, `val` and `test` with one entry an image: `filename`, `folder`,
`image_size` (n_col, n_row) and `person`, one or several, each with `body_bbox` [x1 y1 x2 y2],
`annotations_categories.categories` and `annotations_continuous` (valence, arousal, dominance) of one
annotator. In `val` and `test`, where several people annotated, `combined_categories` and
`combined_continuous` count.
Sources: README of github.com/rkosti/emotic, and mat2py.py of github.com/Tandon-A/emotic, to which it refers.
"""

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import make_folder, write_atomically
from emotion_runtime.manifest import AFFECT
from emotion_train.datasets.bold import CATEGORIES
from emotion_train.datasets.emotic import SPLITS
from emotion_train.probe_data.shared import link

_ORDER = {name: i for i, name in enumerate(sorted(CATEGORIES))}
_WRONG_CONTENT = (MatReadError, ValueError, NotImplementedError, KeyError, AttributeError, TypeError)
_TREE = "--data with Annotations/Annotations.mat, and emotic/ with mscoco, framesdb, emodb_small and ade20k"


def prepare(data: Path, out: Path) -> Counter[str]:
    """Write the layout that `emotion_train.datasets.emotic` reads; the images are linked, not copied.

    Returns:
        The number of people by split.

    Raises:
        EmotionError: A file is missing or has another content, or `out` cannot be written.
    """
    images, path = data / "emotic", data / "Annotations" / "Annotations.mat"
    if not path.is_file() or not images.is_dir():
        raise EmotionError(f"emotic: {images if path.is_file() else path} is missing; expected {_TREE}")
    try:
        content = loadmat(path, struct_as_record=False, squeeze_me=True)
        tables = {split: _rows(content[split]) for split in SPLITS}
    except (*_WRONG_CONTENT, OSError) as error:
        raise EmotionError(
            f"emotic: {path} is not the authors' file ({type(error).__name__}: {error}); expected {_TREE}"
        ) from error
    make_folder(out)
    link(images, out / "emotic")
    for split, (rows, categories, affect) in tables.items():
        text = io.StringIO()
        csv.writer(text).writerows([["Index", "Folder", "Filename", "Image Size", "BBox"], *rows])
        write_atomically(out / "annotations_pre" / f"{split}.csv", text.getvalue())
        for name, values in (("cat", categories), ("cont", affect)):
            data_file = io.BytesIO()
            np.save(data_file, values)
            write_atomically(out / "annotations_pre" / f"{split}_{name}_arr.npy", data_file.getvalue())
    return Counter({split: len(rows) for split, (rows, _, _) in tables.items()})


def _rows(entries: Any) -> tuple[list[list[Any]], NDArray[np.float64], NDArray[np.float64]]:
    """Return the table of people, their categories (N, 26) and their affect (N, 3); NaN if not annotated."""
    rows: list[list[Any]] = []
    categories, affect = [], []
    for entry in np.atleast_1d(entries):
        size = [int(entry.image_size.n_col), int(entry.image_size.n_row)]
        for person in np.atleast_1d(entry.person):
            box = [int(value) for value in np.atleast_1d(person.body_bbox)]
            rows.append([len(rows), str(entry.folder), str(entry.filename), size, box])
            categories.append(_categories(person))
            affect.append(_affect(person))
    return rows, np.reshape(categories, (-1, len(_ORDER))), np.reshape(affect, (-1, len(AFFECT)))


def _categories(person: Any) -> NDArray[np.float64]:
    """Return 0 or 1 for each category in alphabetical order; NaN for a person without any."""
    if "combined_categories" in person._fieldnames:  # noqa: SLF001 - the documented way to list fields
        names = person.combined_categories
    else:
        names = person.annotations_categories.categories
    names = [str(name).lower() for name in np.atleast_1d(names)]
    if unknown := [name for name in names if name not in _ORDER]:
        raise ValueError(f"unknown category {unknown[0]!r}")
    if not names:
        return np.full(len(_ORDER), np.nan)
    return np.isin(list(_ORDER), names).astype(np.float64)


def _affect(person: Any) -> NDArray[np.float64]:
    """Return valence, arousal and dominance, 1 to 10; NaN where nobody stated them."""
    combined = "combined_continuous" in person._fieldnames  # noqa: SLF001 - see `_categories`
    stated = person.combined_continuous if combined else person.annotations_continuous
    values = [np.nan if np.size(value := getattr(stated, name, np.nan)) != 1 else value for name in AFFECT]
    return np.asarray(values, np.float64)
