"""Batches from shards: clips, frames, pixels and patch weights."""

import io
import re
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from made_shards import LONG, SENTENCES, SHORT, write_set
from PIL import Image
from torch.utils.data import DataLoader

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.batch import ClipTextBatch
from emotion_train.clips.batches import ShardBatches, cut_frame
from emotion_train.clips.jpeg import decode_jpeg
from emotion_train.clips.reader import ShardSet
from emotion_train.language.tokenizer import tokenize

SPEC = PreprocessSpec(size=48, patch=16, short_side=SHORT)
CLIPS, BATCH = 20, 6


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet.open(str(write_set(tmp_path_factory.mktemp("made") / "shards", CLIPS)))


def batches(shards: ShardSet, **changes: int) -> ShardBatches:
    return ShardBatches(shards, SPEC, **{"seed": 1, "batch": BATCH, "frames": 8, **changes})


def clips_of(pairs: ClipTextBatch) -> list[int]:
    """Return which clips are shown, from their colour."""
    reds = pairs.images[:, 0, 24, 24, 0].float()
    return ((reds - 5) / 10).round().int().tolist()


def test_an_epoch_shows_each_clip_at_most_once_and_the_next_in_another_order(shards: ShardSet):
    data = batches(shards)
    assert data.steps_per_epoch == 3
    epochs = [[clip for step in range(3) for clip in clips_of(data[3 * epoch + step])] for epoch in (0, 1)]
    assert all(len(set(epoch)) == 18 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert [clip for step in range(3) for clip in clips_of(batches(shards, seed=2)[step])] != epochs[0]


def test_a_batch_depends_only_on_its_index(shards: ShardSet):
    expected = [batches(shards)[i] for i in range(5)]
    data = batches(shards)
    loader = DataLoader(
        data, batch_size=None, sampler=[4, 2, 3, 0, 1], num_workers=2, multiprocessing_context="forkserver"
    )
    for index, found in zip([4, 2, 3, 0, 1], loader, strict=True):
        for part in ("images", "clip_index", "patch_weights", "text", "sentiment"):
            assert torch.equal(getattr(found, part), getattr(expected[index], part)), part


def test_processes_split_a_larger_batch(shards: ShardSet):
    whole, parts = batches(shards, batch=6), batches(shards, batch=3, parallel=2)
    assert whole.steps_per_epoch == parts.steps_per_epoch
    for step in range(5):
        joined = [parts[2 * step + rank] for rank in (0, 1)]
        assert torch.equal(torch.cat([part.images for part in joined]), whole[step].images)
        assert torch.equal(torch.cat([part.text for part in joined]), whole[step].text)


def test_frames_are_random_and_in_time_order(shards: ShardSet):
    data = batches(shards)
    seen = set()
    for step in range(6):
        pairs = data[step]
        numbers = ((pairs.images[:, :, 24, 24, 1].float() - 5) / 20).round().int()  # (B, 8)
        assert (numbers.diff(dim=1) > 0).all()
        seen |= {tuple(row) for row in numbers.tolist()}
    assert len(seen) > 3  # clips of 8 frames give all of them, longer ones a choice


def test_captions_and_sentiment_belong_to_their_clip(shards: ShardSet):
    pairs = batches(shards)[0]
    for row, clip in enumerate(clips_of(pairs)):
        assert torch.equal(pairs.text[row], tokenize([SENTENCES[clip % len(SENTENCES)]])[0])
        logits = np.random.default_rng(clip).normal(size=7)
        torch.testing.assert_close(pairs.sentiment[row], torch.tensor(logits, dtype=torch.float32))


def test_patch_weights_are_of_the_people_in_the_crop(shards: ShardSet):
    """Odd frames show a person in the left half of 80 px; a crop of 48 starts between 0 and 32."""
    pairs = batches(shards)[0]
    numbers = ((pairs.images[:, :, 24, 24, 1].float() - 5) / 20).round().int()
    lefts = set()
    for row in range(BATCH):
        for frame in range(8):
            found = pairs.patch_weights[row, frame].reshape(3, 3)
            if numbers[row, frame] % 2 == 0:
                assert not found.any()
                continue
            assert torch.equal(found, found[:1].expand(3, 3))  # full height
            covered = float(found[0].sum() * 16)
            assert covered == round(covered)
            lefts.add(LONG // 2 - covered)
    assert min(lefts) >= 0
    assert max(lefts) <= LONG - 48
    assert len(lefts) > 5  # drawn anew for every frame


def test_crops_are_parts_of_the_frame():
    frame = np.random.default_rng(0).integers(0, 256, (SHORT, LONG, 3), np.uint8)
    image, weights = cut_frame(np.random.default_rng(3), frame, [(10, 0, 30, 60), (20, 20, 50, 40)], SPEC)
    places = [
        (top, left)
        for top in range(SHORT - 47)
        for left in range(LONG - 47)
        if np.array_equal(frame[top : top + 48, left : left + 48], image)
    ]
    assert len(places) == 1
    (top, left) = places[0]
    covered = np.zeros((SHORT, LONG))
    covered[0:60, 10:30] = covered[20:40, 20:50] = 1  # the union
    crop = covered[top : top + 48, left : left + 48]
    assert weights == pytest.approx(crop.reshape(3, 16, 3, 16).mean((1, 3)).ravel())


def test_a_subject_window_follows_the_largest_person():
    spec = msgspec.structs.replace(SPEC, window="subject", subject_scale=1.5)
    frame = np.zeros((SHORT, LONG, 3), np.uint8)
    frame[20:40, 50:70] = 255
    people = [(2.0, 2.0, 8.0, 8.0), (50.0, 20.0, 70.0, 40.0)]
    image, weights = cut_frame(np.random.default_rng(0), frame, people, spec)
    grid = weights.reshape(3, 3)
    assert grid[1, 1] == 1
    assert 0.35 < (image > 127).mean() < 0.65  # 1 / 1.5 ** 2 of the window, apart from the jitter
    nobody, none = cut_frame(np.random.default_rng(0), frame, [], spec)
    assert nobody.shape == image.shape
    assert not none.any()


def test_the_decoder_gives_the_pixels_of_pillow(shared_data: Path):
    """On frames of a real video, grey ones, and with every way of storing colours."""
    video = cv2.VideoCapture(str(shared_data / "videos" / "vtest.avi"))
    frame = Image.fromarray(np.ascontiguousarray(video.read()[1][..., ::-1])).resize((455, 256))
    for mode, options in (
        ("RGB", {"quality": 90}),
        ("RGB", {"quality": 75, "subsampling": 0}),
        ("RGB", {"quality": 95, "subsampling": 1, "progressive": True}),
        ("L", {"quality": 90}),
    ):
        frame.convert(mode).save(data := io.BytesIO(), "JPEG", **options)
        expected = np.asarray(Image.open(data).convert("RGB"))
        assert np.array_equal(decode_jpeg(data.getvalue()), expected), (mode, options)


def test_a_truncated_frame_is_an_error_and_an_orientation_is_ignored():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(data := io.BytesIO(), "JPEG", exif=exif)
    assert decode_jpeg(data.getvalue()).shape == (40, 60, 3)
    for damaged in (data.getvalue()[:-200], data.getvalue()[:30], b"", b"\xff\xd8"):
        with pytest.raises(ValueError, match=r"decode|empty"):
            decode_jpeg(damaged)


def test_too_few_clips_for_a_step(shards: ShardSet):
    with pytest.raises(EmotionError, match="has 20 clips, too few for a batch of 8 in each of 3 processes"):
        batches(shards, batch=8, parallel=3)


def test_boxes_of_low_score_are_ignored(tmp_path: Path):
    shards = ShardSet.open(str(write_set(tmp_path / "shards", 4, score=0.49)))
    assert not ShardBatches(shards, SPEC, seed=0, batch=4, frames=8)[0].patch_weights.any()


def damage(folder: Path, clips: int = 1) -> Path:
    """Corrupt the first frame of the first clips, which keeps its first bytes."""
    tar = folder / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    for clip in range(clips):
        start = data.index(b"\xff\xd8", data.index(f"clip-{clip:04d}.000.jpg".encode()))
        data[start + 20 : start + 300] = bytes(280)
    tar.write_bytes(data)
    return folder


def test_another_clip_takes_the_place_of_one_that_cannot_be_read(tmp_path: Path):
    whole = ShardBatches(
        ShardSet.open(str(write_set(tmp_path / "whole", 8))), SPEC, seed=0, batch=8, frames=8
    )
    damaged = ShardBatches(
        ShardSet.open(str(damage(write_set(tmp_path / "damaged", 8)))), SPEC, seed=0, batch=8, frames=8
    )
    for step in range(3):
        expected, found = whole[step], damaged[step]
        assert expected.skipped == ()
        ((key, reason),) = found.skipped
        assert key == "clip-0000"
        assert re.search(r"clip clip-0000 has a corrupt frame .*run emotion-train", reason)
        shown, now_shown = clips_of(expected), clips_of(found)
        row = shown.index(0)
        assert now_shown[row] != 0
        assert [clip for i, clip in enumerate(now_shown) if i != row] == [
            clip for i, clip in enumerate(shown) if i != row
        ]
        assert torch.equal(damaged[step].images, found.images)  # the same clip whenever it is asked for


def test_shards_without_a_readable_clip_are_an_error(tmp_path: Path):
    folder = damage(write_set(tmp_path / "shards", 4), 2)
    data = ShardBatches(ShardSet.open(str(folder)), SPEC, seed=0, batch=4, frames=8)
    assert {key for step in range(4) for key, _ in data[step].skipped} == {"clip-0000", "clip-0001"}
    for tar in folder.glob("*.tar"):
        tar.unlink()
    gone = ShardBatches(ShardSet.open(str(folder)), SPEC, seed=0, batch=4, frames=8)
    with pytest.raises(EmotionError, match=r"10 clips in a row cannot be read; the last: .*does not exist"):
        gone[0]


def test_boxes_of_just_the_score_are_ignored(tmp_path: Path):
    """As in the authors' training, a person needs a score above 0.5."""
    shards = ShardSet.open(str(write_set(tmp_path / "shards", 4, score=0.5)))
    assert not ShardBatches(shards, SPEC, seed=0, batch=4, frames=8)[0].patch_weights.any()
