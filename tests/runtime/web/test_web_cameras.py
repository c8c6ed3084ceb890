"""What clients can add, and that the disk is not looked at for it."""

from pathlib import Path

import pytest
from served import FakeSources

from emotion_runtime.errors import EmotionError
from emotion_runtime.sources import Address, parse_source
from emotion_runtime.web.cameras import Cameras


def cameras_of(*first: str) -> tuple[Cameras, FakeSources]:
    sources = FakeSources()
    addresses = [parse_source(text) for text in first]
    for address in addresses:
        sources.paused[address.name] = False
    return Cameras(sources, sources.add, allow_adding=True, first=addresses), sources


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/usr/**/**/**/zz*", None),
        ("a=/usr/**/zz*", None),
        ("*", None),
        ("file:///usr/*", None),
        ("gst:filesrc location=/usr/*", None),
        ("a/b=rtsp://h/*", None),
        ("rtsp:/usr/*", None),
        ("gate=rtsp://h/**/zz*", "gate"),
        ("http://h/[0-9]*.jpg", "h"),
    ],
)
def test_the_disk_is_not_looked_at(uri: str, name: str | None, monkeypatch: pytest.MonkeyPatch):
    def look(*_: object, **__: object) -> bool:
        raise AssertionError("the disk was looked at")

    cameras, sources = cameras_of()
    monkeypatch.setattr("glob.glob", look)
    monkeypatch.setattr(Path, "exists", look)
    if name is None:
        with pytest.raises(EmotionError, match="only network cameras"):
            cameras.add(uri)
    else:
        assert cameras.add(uri) == name
        assert name in sources.names()


@pytest.mark.parametrize(
    "uri",
    [
        "twin=rtsp://10.0.0.1/a",
        "twin=RTSP://10.0.0.1:554/%61",
        "twin=rtsp://other:one@10.0.0.1/a#transport=udp",
    ],
)
def test_a_camera_is_not_opened_twice(uri: str):
    cameras, sources = cameras_of("gate=rtsp://joe:secret@10.0.0.1/a")
    with pytest.raises(EmotionError, match="open already: gate;") as caught:
        cameras.add(uri)
    assert "secret" not in str(caught.value)
    assert cameras.add("twin=rtsp://10.0.0.1/b") == "twin"
    with pytest.raises(EmotionError, match="open already: twin;"):
        cameras.add("third=rtsp://10.0.0.1/b")
    cameras.remove("gate")
    cameras.remove("twin")
    assert cameras.add(uri) == "twin"
    assert sources.names() == ["door", "twin"]


def test_one_that_could_not_be_opened_does_not_count():
    def fail(_: Address) -> None:
        raise EmotionError("no")

    cameras = Cameras(FakeSources(), fail, allow_adding=True)
    for _ in range(2):
        with pytest.raises(EmotionError, match="no"):
            cameras.add("gate=rtsp://10.0.0.1/a")
