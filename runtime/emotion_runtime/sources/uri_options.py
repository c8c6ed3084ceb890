"""Options of a source's URI: `v4l2:///dev/video0?size=1280x720&fps=30`."""

from urllib.parse import parse_qsl

from emotion_runtime.errors import EmotionError


def split_options(uri: str, known: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """Return the part of a URI before `?`, and its options.

    Args:
        uri: A URI without a password: messages quote it.
        known: Names of the options that this kind of source has.

    Raises:
        EmotionError: An option is unknown, is given twice, or has no value.
    """
    address, _, query = uri.partition("?")
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise EmotionError(f"source {uri}: there is no option `{name}`; known are {', '.join(known)}")
        if name in options or not value:
            fault = "is given twice" if name in options else "has no value"
            raise EmotionError(f"source {uri}: the option `{name}` {fault}; write {name}=VALUE once")
        options[name] = value
    return address, options


def size_option(uri: str, options: dict[str, str]) -> tuple[int, int] | None:
    """Return width and height in pixels of the option `size`; None if it is not given.

    Raises:
        EmotionError: It is not of the form 1280x720.
    """
    if (text := options.get("size")) is None:
        return None
    width, _, height = text.lower().partition("x")
    if all(side.isascii() and side.isdigit() and 16 <= int(side) <= 16384 for side in (width, height)):
        return int(width), int(height)
    raise EmotionError(f"source {uri}: size={text} is not a size; expected WIDTHxHEIGHT, such as 1280x720")


def rate_option(uri: str, options: dict[str, str]) -> float | None:
    """Return the option `fps`, frames per second; None if it is not given.

    Raises:
        EmotionError: It is not a number above 0 and up to 1000.
    """
    if (text := options.get("fps")) is None:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if 0.0 < rate <= 1000.0:
        return rate
    raise EmotionError(f"source {uri}: fps={text} is not a frame rate; expected a number such as 30")
