"""Everything that scenes and their warm-ups are made of."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from emotion_train.language.goemotions import load_sentences
from emotion_train.language.sentence_bank import SentenceBank, build_bank
from emotion_train.language.sentiment import load_sentiment
from emotion_train.scenes.faces import Faces, load_faces


@dataclass(frozen=True, slots=True)
class SceneData:
    """Training faces and sentences. archive: where the faces come from."""

    archive: Path
    faces: Faces
    bank: SentenceBank

    def fingerprint(self) -> str:
        """SHA-256 of the pictures, the tokens and all labels: runs on equal ones can be resumed."""
        digest = hashlib.sha256(self.faces.images.tobytes())
        for numbers in (self.faces.labels, self.bank.labels, self.bank.tokens.numpy()):
            digest.update(numbers.tobytes())
        return digest.hexdigest()


def load_scene_data(folder: Path, sentiment: str) -> SceneData:
    """Training faces and sentences of `folder`/data, scored by a model of `load_sentiment`.

    Raises:
        EmotionError: something is missing or not what it should be.

    """
    sentences = load_sentences(folder / "data" / "goemotions_ekman", "train")
    archive = folder / "data" / "fer2013.npz"
    return SceneData(
        archive, load_faces(archive, "train"), build_bank(sentences, load_sentiment(sentiment, sentences))
    )
