"""The training data of a run, opened before its first step so that missing data is reported at once."""

from dataclasses import dataclass, replace
from pathlib import Path

from emotion_train.clips.read_errors import RETRY_WAITS
from emotion_train.clips.reader import ShardSet
from emotion_train.scenes.training_data import SceneData, load_scene_data
from emotion_train.training.config import PretrainConfig
from emotion_train.training.cross_fit import load_predictions


@dataclass(frozen=True, slots=True)
class RunData:
    """What a run learns from.

    Attributes:
        name: Where it comes from, for messages and the report.
        fingerprint: Hash of the content: a run is resumed on the same data only.
        scenes: Faces and sentences, for scenes and their warm-ups.
        shards: Clips of video.
    """

    name: str
    fingerprint: str
    scenes: SceneData | None = None
    shards: ShardSet | None = None


def open_data(source: str | SceneData, config: PretrainConfig) -> RunData:
    """Open the data that a configuration needs.

    Args:
        source: Folder or URL, as `emotion-train pretrain --data` takes it; or data for scenes in memory.
        config: Of the run.

    Raises:
        EmotionError: The data is missing or damaged.
    """
    if config.clips:
        shards = ShardSet.open(str(source), RETRY_WAITS)
        return RunData(str(source), shards.fingerprint, shards=shards)
    if isinstance(source, SceneData):
        return RunData("in memory", source.fingerprint(), scenes=source)
    scenes = load_scene_data(Path(source), config.sentiment, config.votes)
    if config.predictions:
        predicted = load_predictions(Path(config.predictions), scenes.faces)
        scenes = replace(scenes, faces=scenes.faces.mixed_with(predicted, config.prediction_weight))
    return RunData(source, scenes.fingerprint(), scenes=scenes)
