"""Real people and a transformers model of sentiment, from a file to a clip."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Command
from made_media import FEELINGS, write_srt
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from emotion_runtime.detectors import load_detector
from emotion_runtime.sources.file import read_file
from emotion_train.clips.reader import ShardSet
from emotion_train.language.labels import EKMAN

HARTMANN = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
TO_EKMAN = [HARTMANN.index("joy" if name == "happiness" else name) for name in EKMAN]
SAID = ("happy happy love", "table report", "scared afraid", "hate hate hate")


@pytest.fixture(scope="module")
def folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people side by side, four sentences of a second each."""
    root = tmp_path_factory.mktemp("people")
    (root / "videos").mkdir()
    film = shared_data / "videos" / "intel_head-pose-face-detection-female-and-male.gif"
    (root / "videos" / "people.gif").symlink_to(film)
    write_srt(
        root / "captions" / "people.srt",
        [(n * 1.1, n * 1.1 + 1.05, f"{text}.") for n, text in enumerate(SAID)],
    )
    return root


def write_sentiment_model(folder: Path, classes: tuple[str, ...]) -> BertForSequenceClassification:
    """A small random BERT over the words of `FEELINGS`, with its tokenizer, as `save_pretrained` has it."""
    words = sorted({word for text in FEELINGS.values() for word in text.split()})
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    # Wide enough a start for sentences to differ.
    config = BertConfig(
        vocab_size=5 + len(words), initializer_range=0.5, id2label=dict(enumerate(classes)), **sizes
    )
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    return model


def logits_of(model: torch.nn.Module, text: str) -> np.ndarray:
    """One by one, by hand: [CLS] words [UNK for the full stop] [SEP]."""
    words = sorted({word for texts in FEELINGS.values() for word in texts.split()})
    ids = [2, *(5 + words.index(word) for word in text.split()), 1, 3]
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].numpy()[TO_EKMAN]


@pytest.mark.slow
def test_people_and_what_they_say(prepare_data: Command, folder: Path, shared_data: Path):
    model = write_sentiment_model(folder / "model", HARTMANN)
    logits = {f"{text}.": logits_of(model, text) for text in SAID}
    neutral = {
        text: float(np.exp(row[-1]) / np.exp(row).sum()) for text, row in logits.items()
    }  # the last of EKMAN
    low, high = sorted(neutral.values())[1:3]
    assert high - low > 0.005
    argv = ["--videos", str(folder / "videos"), "--captions", str(folder / "captions"), "--workers", "1"]
    argv += ["--detector", str(shared_data / "weights" / "yolox_nano_416_coco.onnx")]
    argv += [
        "--sentiment",
        str(folder / "model"),
        "--max-neutral",
        str((low + high) / 2),
        "--short-side",
        "128",
    ]
    argv += ["--min-seconds", "1", "--out", str(folder / "out")]
    assert prepare_data.main(argv) == 0

    shards = ShardSet.open(str(folder / "out"))
    records = [shards.record(number) for number in range(len(shards))]
    assert {record.caption for record in records} == {
        text for text, p in neutral.items() if p <= (low + high) / 2
    }
    for record in records:
        np.testing.assert_allclose(record.sentiment, logits[record.caption], atol=2e-4)
        assert record.neutral == pytest.approx(neutral[record.caption], abs=1e-4)
    assert shards.spec["detector"].startswith("yolox_nano_416_coco.onnx sha256:")
    assert shards.spec["sentiment"].startswith("model sha256:")
    assert str(folder) not in json.dumps(shards.spec)

    frames = list(read_file(str(folder / "videos" / "people.gif")))
    detector = load_detector(str(shared_data / "weights" / "yolox_nano_416_coco.onnx"), threads=1)
    record = min(records, key=lambda record: record.start)
    k = int(np.ceil(record.start * 8)) + 5
    shown = max((frame for frame in frames if frame.t <= k / 8 + 1e-6), key=lambda frame: frame.t)
    found = detector(shown.image)
    height, width = shown.image.shape[:2]
    expected = found.boxes * np.array([record.width / width, record.height / height] * 2)
    np.testing.assert_allclose([box[:4] for box in record.boxes[5]], expected, atol=0.006)
    statistics = json.loads((folder / "out" / "statistics.json").read_text())
    persons = [sum(box[4] > 0.5 for box in boxes) for record in records for boxes in record.boxes]
    assert statistics["persons"] == [persons.count(count) for count in range(9)]
    assert statistics["persons"][2] > len(persons) / 2  # two people, most of the time
    assert statistics["clips_without_persons"] == 0
