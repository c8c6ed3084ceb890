"""Phrases for emotions: the prompts from which a text tower makes zero-shot classes.

The name of a class alone is rare in spoken language. The phrases were written for this project, following the
definitions of the categories in the papers of Emotic and BoLD; nothing was tuned on a test set.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_train.language.labels import EKMAN, ekman_index

Phrases = dict[str, tuple[str, ...]]

TEMPLATES = (
    "{}",
    "I feel {}.",
    "I am feeling {} right now.",
    "A person who feels {}.",
    "This is full of {}.",
)

EKMAN_PHRASES: Phrases = {
    "anger": ("anger", "so angry", "furious", "I hate this, shut up!"),
    "disgust": ("disgust", "disgusted", "gross", "That is disgusting, eww."),
    "fear": ("fear", "afraid", "scared", "I am terrified, this is scary."),
    "happiness": ("happiness", "so happy", "joy", "I love this, thank you, it is great!"),
    "sadness": ("sadness", "so sad", "sorry", "I am sad and lonely, I miss you."),
    "surprise": ("surprise", "surprised", "wow", "Oh wow, really? I had no idea!"),
    "neutral": ("neutral", "calm", "nothing special", "The meeting is on Tuesday at the office."),
}

# The 26 categories that BoLD, Emotic and MovieGraphs share.
CATEGORY_PHRASES: Phrases = {
    "peace": ("peace", "at peace", "calm and relaxed", "no worries at all"),
    "affection": ("affection", "love for you", "tenderness", "I love you, come here, my dear."),
    "esteem": ("esteem", "admiration and respect", "grateful to you", "I look up to you, well done."),
    "anticipation": ("anticipation", "hopeful", "eager for what comes next", "I can't wait for tomorrow."),
    "engagement": (
        "engagement",
        "absorbed in this",
        "interested",
        "Tell me more, I want to know how it works.",
    ),
    "confidence": ("confidence", "sure of myself", "proud", "I know that I can do this."),
    "happiness": ("happiness", "so happy", "joy", "I love this, thank you, it is great!"),
    "pleasure": ("pleasure", "delight", "comfortable and content", "Mmm, this is so good."),
    "excitement": ("excitement", "excited", "thrilled", "Oh my god, yes, let's go!"),
    "surprise": ("surprise", "surprised", "wow", "Oh wow, really? I had no idea!"),
    "sympathy": ("sympathy", "sorry for you", "compassion", "I am so sorry for your loss."),
    "doubt/confusion": ("doubt", "confused", "not sure", "I don't understand, what do you mean?"),
    "disconnection": ("disconnection", "bored", "indifferent", "I don't care, whatever."),
    "fatigue": ("fatigue", "tired", "exhausted", "I need to sleep, I have no strength left."),
    "embarrassment": ("embarrassment", "ashamed", "guilty", "This is so embarrassing, please don't look."),
    "yearning": ("yearning", "longing", "jealous", "I want it so badly, I miss those days."),
    "disapproval": ("disapproval", "contempt", "against this", "You should not have done that."),
    "aversion": ("aversion", "disgust", "repulsed", "Get that away from me, it is disgusting."),
    "annoyance": ("annoyance", "annoyed", "irritated", "Stop it, you are getting on my nerves."),
    "anger": ("anger", "so angry", "furious", "I hate this, shut up!"),
    "sensitivity": ("sensitivity", "vulnerable", "easily hurt", "That really hurt my feelings."),
    "sadness": ("sadness", "so sad", "heartbroken", "I am sad and lonely, I miss you."),
    "disquietment": ("disquietment", "worried", "nervous and tense", "Something is wrong, I am so stressed."),
    "fear": ("fear", "afraid", "scared", "I am terrified, this is scary."),
    "pain": ("pain", "in pain", "hurting", "Ow, it hurts, make it stop!"),
    "suffering": ("suffering", "anguish", "miserable", "I can't bear this any longer."),
}

_SETS: Mapping[str, Phrases] = {"ekman": EKMAN_PHRASES, "bold": CATEGORY_PHRASES}


def load_phrases(chosen: str) -> Phrases:
    """Load a label set with its phrases.

    A file has one class per line: `label`, or `label: phrase; phrase; ...`. Empty lines and lines that
    start with # are ignored.

    Args:
        chosen: Name of a set (ekman, bold) or a text file.

    Raises:
        EmotionError: The set or file does not exist, a label occurs twice, or there are fewer than two.
    """
    if chosen in _SETS:
        return _SETS[chosen]
    path = Path(chosen)
    if not path.is_file():
        raise EmotionError(
            f"no label set {chosen!r}: expected {' or '.join(_SETS)}, or a text file with lines such as "
            "`joy: so happy; I love this`"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise EmotionError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error
    phrases: Phrases = {}
    for line_number, line in enumerate(lines, 1):
        label, _, listed = line.partition(":")
        label = label.strip()
        if not line.strip() or label.startswith("#"):
            continue
        if not label or label in phrases:
            raise EmotionError(
                f"{path}, line {line_number}: {line.strip()!r}, expected a label that does not occur above"
            )
        variants = tuple(phrase.strip() for phrase in listed.split(";") if phrase.strip())
        phrases[label] = variants or (label,)
    if len(phrases) < 2:
        raise EmotionError(f"{path} names {len(phrases)} labels: expected two or more, one per line")
    return phrases


def phrases_for(labels: Sequence[str]) -> Phrases:
    """Return phrases for the labels of a task, in its order; the phrase of an unknown label is the label."""
    if all(label.lower() in CATEGORY_PHRASES for label in labels):
        return {label: CATEGORY_PHRASES[label.lower()] for label in labels}
    known = CATEGORY_PHRASES | EKMAN_PHRASES
    return {label: known.get(canonical(label), (label,)) for label in labels}


def canonical(label: str) -> str:
    """Return the Ekman name of a class if it is a synonym of one (joy), otherwise the label in lower case."""
    try:
        return EKMAN[ekman_index(label.lower())]
    except EmotionError:
        return label.lower()
