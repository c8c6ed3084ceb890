"""The training data of scenes and of their warm-up stages."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from emotion_train.language.goemotions import load_sentences
from emotion_train.language.sentence_bank import SentenceBank, build_bank
from emotion_train.language.sentiment import load_sentiment
from emotion_train.scenes.faces import FACES_FILE, Faces, load_faces


@dataclass(frozen=True, slots=True)
class SceneData:
    """Training faces and sentences.

    Attributes:
        archive: The file that the faces were read from.
        faces: Training faces; their votes are what they are examples of.
        bank: Training sentences.
    """

    archive: Path
    faces: Faces
    bank: SentenceBank

    def fingerprint(self) -> str:
        """Return the SHA-256 of images, tokens, labels and votes; a run can be resumed only on equal data."""
        digest = hashlib.sha256(self.faces.images.tobytes())
        for array in (self.faces.labels, self.faces.votes, self.bank.labels, self.bank.tokens.numpy()):
            digest.update(array.tobytes())
        return digest.hexdigest()


def load_scene_data(folder: Path, sentiment: str, votes: float = 1.0) -> SceneData:
    """Load training faces and sentences from `folder`/data, and score the sentences.

    Args:
        folder: The folder above data/fer2013_plus.npz and data/goemotions_ekman.
        sentiment: Name of the sentiment model, see `load_sentiment`.
        votes: Weight of the votes against the label, see `Faces.weighted`.

    Raises:
        EmotionError: A file is missing or has another format.
    """
    sentences = load_sentences(folder / "data" / "goemotions_ekman", "train")
    archive = folder / FACES_FILE
    faces = load_faces(archive, "train").weighted(votes)
    return SceneData(archive, faces, build_bank(sentences, load_sentiment(sentiment, sentences)))
