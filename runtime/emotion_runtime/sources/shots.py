"""What a live source gets from its connection: images, with the time of their capture."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from threading import Event

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Shot:
    """One image of a live source.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        captured: The earliest time that is known of it, on the scale of `time.monotonic()`, in seconds.
        time: The same as wall-clock time, in UTC.
        next_in: Seconds before which the next image cannot come, as of a server that is asked for one now and
            then; a source is not taken for lost in this time.
        codec: How the image came, such as h264; "" if it is not known.
    """

    image: NDArray[np.uint8]
    captured: float
    time: datetime
    next_in: float = 0.0
    codec: str = ""


# Opens the source anew at every call and yields images until the connection ends; returning is an end, too.
# It runs in a thread of its own and ends soon after the event is set. Raises `ConnectionLost`.
Connect = Callable[[Event], Generator[Shot, None, None]]
