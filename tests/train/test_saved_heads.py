from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from emotion_runtime.errors import EmotionError
from emotion_train.heads import HeadCard, LinearHead, load_head, save_head

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
BIAS = np.array([0.5, -1.0, 2.0], np.float32)
CARD = HeadCard("probe", ["a", "b", "c"], "softmax", 1.7, {"accuracy": 0.5}, "ab" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved head named probe."""
    save_head(tmp_path / "heads", "probe", LinearHead(WEIGHT, BIAS, CARD))
    return tmp_path / "heads"


def test_a_head_survives_the_disk(folder: Path):
    head = load_head(folder, "probe")
    np.testing.assert_array_equal(head.weight, WEIGHT)
    np.testing.assert_array_equal(head.bias, BIAS)
    assert head.weight.dtype == head.bias.dtype == np.float32
    assert head.card == CARD


def test_a_head_of_any_memory_layout_survives(tmp_path: Path):
    save_head(tmp_path, "zero_shot", LinearHead(np.asfortranarray(WEIGHT), BIAS, CARD))
    np.testing.assert_array_equal(load_head(tmp_path, "zero_shot").weight, WEIGHT)


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": WEIGHT[:2], "bias": BIAS},
        {"weight": WEIGHT, "bias": BIAS[:2]},
        {"weight": WEIGHT[:2], "bias": BIAS[:2]},
        {"weight": WEIGHT[:, 0], "bias": BIAS},
        {"weight": np.array(1, np.float32), "bias": BIAS},
        {"weight": WEIGHT.astype(np.float64), "bias": BIAS},
        {"weight": WEIGHT},
        {"weight": WEIGHT, "bias": BIAS, "extra": BIAS},
    ],
)
def test_numbers_that_do_not_fit_the_labels_are_refused(
    tensors: dict[str, NDArray[np.generic]], folder: Path
):
    save_file(tensors, folder / "probe.safetensors")
    with pytest.raises(EmotionError, match=r"expected weight \(3, D\) and bias \(3,\) of float32"):
        load_head(folder, "probe")


def test_broken_files_are_named(folder: Path):
    (folder / "probe.safetensors").write_bytes(b"corrupt")
    with pytest.raises(EmotionError, match=r"probe\.safetensors is not a safetensors file"):
        load_head(folder, "probe")
    card = msgspec.json.decode((folder / "probe.json").read_bytes())
    (folder / "probe.json").write_bytes(msgspec.json.encode(card | {"colour": "red"}))
    with pytest.raises(EmotionError, match=r"probe\.json: .*colour"):
        load_head(folder, "probe")
    with pytest.raises(
        EmotionError, match=r"no head 'other' in .*expected other\.safetensors and other\.json"
    ):
        load_head(folder, "other")
