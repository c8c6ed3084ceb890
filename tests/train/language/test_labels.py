import numpy as np
import pytest

from emotion_runtime.errors import EmotionError
from emotion_train.language.labels import EKMAN, ekman_index, missing_classes, rows_by_class


@pytest.mark.parametrize(
    ("name", "ekman"),
    [
        ("angry", "anger"),
        ("disgust", "disgust"),
        ("fear", "fear"),
        ("happy", "happiness"),
        ("sad", "sadness"),
        ("surprise", "surprise"),
        ("neutral", "neutral"),
        ("joy", "happiness"),
        ("happiness", "happiness"),
    ],
)
def test_synonyms_of_the_data_sets_are_ekman_classes(name: str, ekman: str):
    assert EKMAN[ekman_index(name)] == ekman


def test_an_unknown_class():
    with pytest.raises(EmotionError, match="'contempt' is unknown: expected one of"):
        ekman_index("contempt")


def test_rows_and_missing_classes():
    labels = np.array([6, 0, 6, 2])
    assert [rows.tolist() for rows in rows_by_class(labels)] == [[1], [], [3], [], [], [], [0, 2]]
    assert missing_classes(labels) == ["disgust", "happiness", "sadness", "surprise"]
    assert missing_classes(np.arange(7)) == []
