"""Errors a user can mend. Everything else is a bug and keeps its traceback."""


class EmotionError(Exception):
    """A user's mistake in one line: what was wrong, what was got, what was expected, how to mend it.

    The command line prints the message and exits with status 2.
    """


class SourceBroken(EmotionError):  # noqa: N818 - reads as what happened
    """A source that gave frames and then broke; what was made of them is good and kept."""
