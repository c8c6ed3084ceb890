"""Restore the punctuation of captions that have none, with a model, as the authors did (paper Sec. 3.1).

The paper uses FullStop (its reference [23]): a token classifier whose labels are the mark after a word.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from emotion_runtime.errors import EmotionError
from emotion_train.prepare.captions import Word
from emotion_train.prepare.regroup import STOPS

PAPER_MODEL = "oliverguhr/fullstop-punctuation-multilang-large"

_MARKS = {".", ",", "?", "!", "-", ":", ";"}
_NO_MARK = {"0", "O"}
_WORDS_PER_STOP = 50  # captions with fewer full stops than this count as unpunctuated
_POSITIONS = 512  # tokens that are looked at together at most
_PIECE, _CONTEXT = 180, 20  # words that get a mark in one pass, and words beside them that the model sees

Predict = Callable[[Sequence[str]], list[str]]  # words -> the mark after each; empty for none


def restore(words: Sequence[Word], predict: Predict) -> list[Word]:
    """Return the words with the predicted marks; those that have a mark keep it.

    Captions with a full stop in every 50 words are returned as they are.

    Args:
        words: Of one caption file, in order of time.
        predict: Returns the mark after each of some words.
    """
    stops = sum(word.text.endswith(STOPS) for word in words)
    if stops * _WORDS_PER_STOP >= len(words):
        return list(words)
    texts = [word.text for word in words]
    marks: list[str] = []
    for start in range(0, len(texts), _PIECE):
        before = min(_CONTEXT, start)
        seen = texts[start - before : start + _PIECE + _CONTEXT]
        marks += predict(seen)[before : before + _PIECE]
    return [
        replace(word, text=word.text + mark) if word.text[-1:].isalnum() else word
        for word, mark in zip(words, marks, strict=True)
    ]


class TransformersPunctuation:
    """A token classifier of transformers. UNVERIFIED with the paper's model, which was not at hand.

    Args:
        name_or_path: Name on the Hugging Face hub, or a folder.
        device: As torch names it.

    Raises:
        EmotionError: The model cannot be loaded, or its labels are not punctuation marks.
    """

    def __init__(self, name_or_path: str, *, device: str = "cpu") -> None:
        from transformers import AutoModelForTokenClassification, AutoTokenizer  # noqa: PLC0415 - slow to import

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name_or_path)
            self._model = AutoModelForTokenClassification.from_pretrained(name_or_path).eval().to(device)
        except (OSError, ValueError) as error:  # a folder without a model raises ValueError
            raise EmotionError(
                f"punctuation model {name_or_path!r} cannot be loaded: use a folder of save_pretrained, or a "
                f"name on the Hugging Face hub (needs a network), such as {PAPER_MODEL}"
            ) from error
        labels = [str(name) for _, name in sorted(self._model.config.id2label.items())]
        if unknown := [name for name in labels if name not in _MARKS | _NO_MARK]:
            raise EmotionError(
                f"punctuation model {name_or_path!r} has labels {', '.join(unknown)}: expected marks such as "
                '. , ? and "0" for none'
            )
        self._marks = ["" if name in _NO_MARK else name for name in labels]
        self._device = device

        # Some models count positions from the number of the padding token on (RoBERTa: 514 are 512).
        positions = getattr(self._model.config, "max_position_embeddings", None) or _POSITIONS
        padding = self._model.config.pad_token_id or 0
        self._positions = min(positions - padding - 1, _POSITIONS)

    def __call__(self, words: Sequence[str]) -> list[str]:
        """Return the mark after each word: the label of its last token.

        Words of too many tokens for the model are looked at in two halves.
        """
        import torch  # noqa: PLC0415 - slow to import

        tokens = self._tokenizer(list(words), is_split_into_words=True, return_tensors="pt")
        if tokens["input_ids"].shape[1] > self._positions:
            middle = len(words) // 2
            if not middle:
                return [""]  # one word that is longer than all that the model can see
            return [*self(words[:middle]), *self(words[middle:])]
        with torch.inference_mode():
            labels = self._model(**tokens.to(self._device)).logits[0].argmax(dim=-1).tolist()
        marks = [""] * len(words)
        for place, word in enumerate(tokens.word_ids(0)):
            if word is not None:
                marks[word] = self._marks[labels[place]]
        return marks
