"""Videos to leave out of pre-training, because a labelled data set is cut from them."""

from collections.abc import Iterable

# Sources of BoLD on YouTube that the authors leave out: their list has 19 entries, of which these differ.
BOLD_VIDEOS = frozenset(
    {
        "2qQs3Y9OJX0",
        "7YpF6DntOYw",
        "914yZXz-iRs",
        "CrlfWnsS7ac",
        "Db19rWN5BGo",
        "_a9SWtcaNj8",
        "_mAfwH6i90E",
        "lWXhqIAvarw",
        "oD_wxyTHJ2I",
        "phrYEKv0rmw",
        "y7ncweROe9U",
    }
)


def excluded_names(names: Iterable[str], exclude: frozenset[str]) -> list[str]:
    """Return the videos to leave out, in order.

    Args:
        names: Names of videos: paths below the root without a suffix. The authors append "&" and more to the
            id of a video.
        exclude: Names or ids to leave out.
    """
    return [name for name in names if {name, name.rsplit("/", 1)[-1].split("&")[0]} & exclude]
