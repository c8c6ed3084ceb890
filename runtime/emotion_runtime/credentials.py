"""Passwords in addresses: read from the environment or a file when a source is opened, and never printed."""

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import with_home

HIDDEN = "***"
_FOLDER = "CREDENTIALS_DIRECTORY"  # systemd puts the files of LoadCredential= there

_PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")
_USER_AND_PASSWORD = re.compile(r"(?<=://)(?:\$\{[^{}]*\}|[^/?#])*(?=@)")
# Cameras also take passwords as parameters or in the path of an address, elements of GStreamer as properties.
_PARAMETER = re.compile(
    r"((?:pas|pwd|psw|pw|token|secret|auth|key(?!-)|credential|signature|session|bearer|psk)[^=&#/?\s]*=)"
    r"""("[^"]*"|'[^']*'|[^&#\s]+)""",
    re.IGNORECASE,
)
# Names of parameters that are a part of harmless names, too.
_SHORT_PARAMETER = re.compile(
    r"((?<=[?&;])(?:p|pin|otp|code|sig|sign|sid|hash|hmac|jwt|cred|access|session|ticket|login)=)([^&#\s]+)",
    re.IGNORECASE,
)
_VALUE = re.compile(r"([^?&#=\s]=)([^&#\s]+)")
# USER:PASSWORD as a parameter or after #, but not numbers such as 16:9; and what follows # and is no option.
_PAIR = re.compile(r"([?&;#=,][^?&;#=,:\s]*[A-Za-z][^?&;#=,:\s]*:)([^&#\s]*[^\d.:&#\s][^&#\s]*)")
_FRAGMENT = re.compile(r"(#)([^=:#\s]+)(?=\s|$)")
# What follows one of these in a path is a password, unless it is the name of a file, as in /admin/video.cgi.
_BEFORE_PASSWORD = re.compile(
    r"admin|root|user|viewer|guest|operator|login|pass\w*|pwd|pw|pin|token|secret|auth|\w*key", re.IGNORECASE
)
_FILE_NAME = re.compile(r"[\w-]+\.[A-Za-z]\w{1,4}")
_NETWORK = re.compile(r"(?:rtsps?|https?|mqtts?)$", re.IGNORECASE)
_PIPELINE = re.compile(r"(?:[^:=]*=)?gst:", re.IGNORECASE)
_SCHEME = re.compile(r"(?<![\w.+-])(?=[A-Za-z][\w.+-]*://)")
_NO_SCHEME = re.compile(r"([^/\\\s:=]+:)[^/\\\s]+(?=@)")  # USER:PASSWORD@HOST, which is refused later


def with_secrets(text: str, what: str = "a source") -> str:
    """Replace `${NAME}` by the environment variable NAME, and `${file:PATH}` by the content of a file.

    In the user and password of an address, what is inserted is percent-encoded, so that a password can be
    given as it is. A relative PATH is one of systemd's credentials, if the service has any.

    Args:
        text: A source or another address, as given by the user.
        what: The address, for messages.

    Raises:
        EmotionError: A variable is not set, or a file cannot be read.
    """
    if "${" in _PLACEHOLDER.sub("", text):
        raise EmotionError(f"{what} has ${{ without its }}; expected ${{NAME}} or ${{file:PATH}}")
    if _PLACEHOLDER.search(text) is None:
        return text
    encoded = _USER_AND_PASSWORD.sub(
        lambda part: _PLACEHOLDER.sub(lambda match: quote(_secret(match[1], what), safe=""), part[0]), text
    )
    # What was inserted is percent-encoded, so that no placeholder is found in it again.
    return _PLACEHOLDER.sub(lambda match: _secret(match[1], what), encoded)


def with_user(uri: str, user: str, password: str) -> str:
    """Return an address with a user and a password, which may contain placeholders.

    Args:
        uri: Address without a user, such as rtsp://192.168.1.20/stream.
        user: Name of the user.
        password: The password; "" for none.

    Raises:
        EmotionError: The address is not that of a network camera, or it has a user already.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        raise EmotionError("user and password are for addresses such as rtsp:// and http://")
    if _USER_AND_PASSWORD.search(uri):
        raise EmotionError("the address has a user already: give the user in one place")
    given = [_quoted(part) for part in (user, password) if part]
    return f"{scheme}://{':'.join(given)}@{rest}"


def without_passwords(text: str) -> str:
    """Return a source, or a message about sources, with `***` in the place of passwords.

    Placeholders such as `${NAME}` stay.
    """
    if _PIPELINE.match(text):
        text = _PARAMETER.sub(_without_value, text)
    if text.count("://") > 1:  # several addresses, or one within another
        return re.sub(r"\S+", lambda word: "".join(map(_without_password, _SCHEME.split(word[0]))), text)
    return _without_password(text)


def _without_password(text: str) -> str:
    """Hide the passwords of one address."""
    start, separator, rest = text.partition("://")
    if not separator:
        return _NO_SCHEME.sub(rf"\1{HIDDEN}", text)
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in rest and not re.fullmatch(r"[^@:\[]*(:\d*)?|\[[^]]*\](:\d*)?", authority):
        # Up to the last @: users also write passwords with reserved characters in them.
        user_and_password, _, host = rest.rpartition("@")
        user, colon, password = user_and_password.partition(":")
        rest = f"{user}{colon}{_hidden(password) if colon else ''}@{host}"
    is_network = _NETWORK.search(start) is not None
    rest = _without_parameters(rest, is_network=is_network)
    # Names of parameters may be percent-encoded, too. What is decoded is shown only where it hides something.
    decoded = unquote(rest)
    hidden = _without_parameters(decoded, is_network=is_network)
    return start + separator + (rest if hidden == decoded else hidden)


def _without_parameters(rest: str, *, is_network: bool) -> str:
    """Hide the passwords of an address apart from that of its user, without its scheme."""
    rest = _PARAMETER.sub(_without_value, rest)
    return _without_odd_ones(rest) if is_network else rest


def _without_odd_ones(rest: str) -> str:
    """Hide what looks like a password in the path and the parameters of an address without its scheme."""
    end = re.search(r"[?#\s]|$", rest)
    place, others = rest[: end.start()], rest[end.start() :]  # type: ignore[union-attr]  # it always matches
    host, *steps = place.split("/")
    shown = [host]
    for before, step in zip(["", *steps], steps, strict=False):
        name, colon, password = step.partition(":")
        if _looks_random(step) or (_BEFORE_PASSWORD.fullmatch(before) and not _FILE_NAME.fullmatch(step)):
            shown.append(_hidden(step))
        else:
            shown.append(f"{name}:{_hidden(password)}" if colon and name and password else step)
    for pattern in (_SHORT_PARAMETER, _PAIR, _FRAGMENT):
        others = pattern.sub(_without_value, others)
    return "/".join(shown) + _VALUE.sub(
        lambda found: _without_value(found) if _looks_random(found[2]) else found[0], others
    )


def _looks_random(text: str) -> bool:
    """Return whether a text is rather a key than a word or a number."""
    kinds = [any(map(kind, text)) for kind in (str.islower, str.isupper, str.isdigit)]
    if re.fullmatch(r"[0-9A-Fa-f-]{16,}", text):
        return kinds[2] and (kinds[0] or kinds[1])
    return all(kinds) and bool(re.fullmatch(r"[A-Za-z0-9]{12,}|[\w.~%+=-]{20,}", text))


def _without_value(parameter: re.Match[str]) -> str:
    return parameter[1] + _hidden(parameter[2])


def _hidden(secret: str) -> str:
    return secret if _PLACEHOLDER.fullmatch(secret) else HIDDEN


def _quoted(text: str) -> str:
    """Percent-encode all but the placeholders."""
    literals = _PLACEHOLDER.split(text)
    parts = [
        quote(part, safe="") if index % 2 == 0 else f"${{{part}}}" for index, part in enumerate(literals)
    ]
    return "".join(parts)


def _secret(name: str, what: str) -> str:
    if name.startswith("file:"):
        return _read(Path(os.environ.get(_FOLDER, ""), with_home(name.removeprefix("file:"))), what)
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise EmotionError(
            f"{what} has ${{{name}}}; expected ${{NAME}} for an environment variable, or ${{file:PATH}}"
        )
    value = os.environ.get(name)
    if not value:
        problem = "not set" if value is None else "empty"
        raise EmotionError(
            f"the environment variable {name}, which {what} needs, is {problem}; export {name}=..., or "
            "write ${file:PATH} for a file that contains it"
        )
    return value


def _read(path: Path, what: str) -> str:
    try:
        value = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise EmotionError(
            f"the file {path}, which holds the password of {what}, cannot be read ({reason}); "
            "give the path of a file that this user may read"
        ) from error
    if not value:
        raise EmotionError(f"the file {path}, which holds the password of {what}, is empty")
    return value
