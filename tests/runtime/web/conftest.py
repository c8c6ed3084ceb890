"""A server that the tests of a module share."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from served import Served


@pytest.fixture(scope="module")
def served() -> Iterator["Served"]:
    from served import MANY, serving  # noqa: PLC0415 - skips where the extra is missing

    from emotion_runtime.web.opening import WebOptions  # noqa: PLC0415 - as above

    with serving(WebOptions(place="127.0.0.1:0", allow_adding=True, limits=MANY)) as found:
        yield found
