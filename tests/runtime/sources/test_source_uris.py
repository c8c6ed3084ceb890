"""`[NAME=]URI`: what is a name, what opens a source, and that no secret is ever printed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from emotion_runtime.errors import EmotionError
from emotion_runtime.run_sources import addresses_of
from emotion_runtime.sources import open_source, parse_source, parse_sources


@pytest.mark.parametrize(
    ("text", "name", "kind", "uri"),
    [
        (0, "0", "camera", "0"),
        ("1", "1", "camera", "1"),
        ("door=0", "door", "camera", "0"),
        ("/dev/video2", "video2", "camera", "v4l2:///dev/video2"),
        ("/dev/video2?fps=5", "video2", "camera", "v4l2:///dev/video2?fps=5"),
        ("/dev/v4l/by-id/usb-A-index0", "usb-A-index0", "camera", "v4l2:///dev/v4l/by-id/usb-A-index0"),
        ("v4l2:///dev/video0?size=1280x720&fps=30", "video0", "camera", "v4l2:///dev/video0?size=1280x720&fps=30"),
        ("a=v4l2:///dev/video0?size=1x1", "a", "camera", "v4l2:///dev/video0?size=1x1"),
        ("v4l2:///dev/v4l/by-id/usb-Cam_1", "usb-Cam_1", "camera", "v4l2:///dev/v4l/by-id/usb-Cam_1"),
        ("rtsp://joe:pw@cam.local:8554/a?b=c", "cam.local", "network", "rtsp://joe:pw@cam.local:8554/a?b=c"),
        ("RTSPS://10.0.0.7/1", "10.0.0.7", "network", "RTSPS://10.0.0.7/1"),
        ("rtsp://joe:p@ss=@cam/1", "cam", "network", "rtsp://joe:p@ss=@cam/1"),
        ("http://[fe80::1]:80/x.mjpg", "fe80::1", "network", "http://[fe80::1]:80/x.mjpg"),
        ("Back door=https://cam/x?a=b=c", "Back door", "network", "https://cam/x?a=b=c"),
        ("csi://0", "csi0", "gstreamer", "csi://0"),
        ("gst:videotestsrc ! a b=c", "gst", "gstreamer", "gst:videotestsrc ! a b=c"),
        ("x=gst:videotestsrc is-live=true", "x", "gstreamer", "gst:videotestsrc is-live=true"),
        ("demo", "demo", "demo", "demo"),
        ("hall=demo", "hall", "demo", "demo"),
        ("-", "-", "file", "-"),
        ("in=-", "in", "file", "-"),
        ("no.mp4", "no.mp4", "file", "no.mp4"),
        ("no=no.mp4", "no", "file", "no.mp4"),
        ("Tür 2=no.mp4", "Tür 2", "file", "no.mp4"),
        ("12:30:00.mp4", "12:30:00.mp4", "file", "12:30:00.mp4"),
        (r"C:\film.mp4", r"C:\film.mp4", "file", r"C:\film.mp4"),
        ("dir/a=b.mp4", "dir/a=b.mp4", "file", "dir/a=b.mp4"),
        (Path("a=b.mp4"), "a=b.mp4", "file", "a=b.mp4"),
    ],
)  # fmt: skip
def test_text_is_taken_apart(text: str | int | Path, name: str, kind: str, uri: str) -> None:
    address = parse_source(text)
    assert (address.name, address.kind, address.uri) == (name, kind, uri)
    assert address.live is (kind in ("camera", "network", "gstreamer"))


@pytest.mark.parametrize("file", ["a=b.mp4", "a=rtsp:x.mp4", "door=0", "=b.mp4", "a=[1].png"])
def test_name_of_a_file_that_exists_is_no_name(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).touch()
    (tmp_path / "a=folder").mkdir()
    for text in (file, "a=folder"):
        address = parse_source(text)
        assert (address.name, address.kind, address.named) == (text, "file", False)


def test_pattern_that_files_match_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a=1.png", "1.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert parse_source("a=*.png").name == "a=*.png"
    assert parse_source("b=*.png").name == "b"


def test_default_names_of_one_host_are_numbered_in_order() -> None:
    names = [
        address.name
        for address in parse_sources(
            [
                "rtsp://a:b@nvr/1",
                "rtsp://a:b@nvr/2",
                "rtsp://a:b@nvr/3",
                "gst:a",
                "gst:b",
                "nvr-4=rtsp://nvr/4",
            ]
        )
    ]
    assert names == ["nvr", "nvr-2", "nvr-3", "gst", "gst-2", "nvr-4"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a=demo", "a=no.mp4"], "two sources have the name a"),
        (["nvr-2=demo", "nvr-2=rtsp://nvr/1"], "two sources have the name nvr-2"),
        ([0, "v4l2:///dev/video0"], "given twice"),
        ([0, "door=v4l2:///dev/video0?fps=5"], "given twice"),
        (["0", "/dev/video0"], "given twice"),
        (["a.mp4", "./a.mp4"], r"given twice \(a.mp4 and ./a.mp4\)"),
        (["rtsp://u:secret@h/1", "door=rtsp://u:secret@h/1"], "given twice"),
        (["rtsp://u:secret@h/1?a=b", "door=RTSP://H:554/%31?a=b#transport=udp"], "given twice"),
    ],
)
def test_two_sources_of_one_name_or_place_are_an_error(texts: list[str | int], message: str) -> None:
    with pytest.raises(EmotionError, match=message) as caught:
        parse_sources(texts)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty string"),
        ("a=", "empty string"),
        ("rtmp://joe:secret@host/1", "rtmp://, which is not supported"),
        ("a=srt://joe:secret@host/1", "srt://, which is not supported"),
        ("rtsp:joe:secret@host/1", "expected rtsp://"),
        ("rtsp:/joe:secret@host/1", "expected rtsp://"),
        ("a=http:joe:secret@host", "expected http://"),
        ("=rtsp://joe:secret@host", "no scheme before it"),
        ("a/b=rtsp://joe:secret@host", "no scheme before it"),
        ("a:b=rtsp://joe:secret@host", "no scheme before it"),
        ("://joe:secret@host", "no scheme before it"),
        ("rtsp://", "has no host"),
        ("rtsp://joe:secret@", "has no host"),
        ("rtsp://joe:secret@[::1/1", "has no host"),
        ("rtsp://joe:se/cret@host/1", "%2F"),
        ("rtsp://joe:12#secret@host/1", "%23"),
        ("joe:secret@10.0.0.7/1", "begin it with rtsp://"),
        ("a=joe:secret@10.0.0.7:554", "begin it with rtsp://"),
    ],
)
def test_mistake_is_one_line_without_the_uri(
    text: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(EmotionError, match=message) as caught:
        open_source(text).close()
    assert "\n" not in str(caught.value)
    for secret in ("secret", "cret", "joe"):
        assert secret not in str(caught.value) + caplog.text


def test_streams_of_one_host_are_several_sources() -> None:
    texts = [
        "rtsp://h/1",
        "rtsp://h/2",
        "rtsp://h/1?a",
        "rtsp://h:555/1",
        "rtsps://h/1",
        "http://h",
        "a=rtsp://[::1",
    ]
    assert len(parse_sources(texts)) == len(texts)


@pytest.mark.parametrize("text", ["rtsp://h/**/*", "a b=HTTPS://h/[1]*?a=b", "rtsps://joe:pw@h/1"])
def test_nothing_is_looked_up_on_the_disk_for_a_network_camera(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(*_: object, **__: object) -> bool:
        raise AssertionError("the disk was looked at")

    monkeypatch.setattr("glob.glob", look)
    monkeypatch.setattr(Path, "exists", look)
    assert parse_source(text).kind == "network"


@pytest.mark.parametrize("show", [repr, str])
def test_address_shows_no_uri(show: Callable[[object], str]) -> None:
    assert "secret" not in show(parse_source("rtsp://joe:secret@host/secret"))


def test_files_have_the_name_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("1.png", "2.png"):
        Image.new("RGB", (32, 32)).save(tmp_path / "photos" / name)

    def names(uri: str, *, realtime: bool = False) -> list[str]:
        with open_source(uri, realtime=realtime) as source:
            assert source.name == uri.partition("=")[0]
            return [frame.source for frame in source]

    assert names("door=photos/1.png") == ["door"]
    assert names("door=photos") == ["door/1.png", "door/2.png"]
    assert names("door=photos/*.png") == ["door/photos/1.png", "door/photos/2.png"]
    assert set(names("hall=photos/2.png", realtime=True)) == {"hall"}


@pytest.mark.parametrize(
    "other", ["./clips/a.mp4", "clips/*", "clips/../clips", "clips/link.mp4", "x=clips/a.mp4"]
)
def test_a_file_is_given_twice_by_a_folder_and_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    Path("clips/a.mp4").touch()
    Path("clips/link.mp4").symlink_to("a.mp4")
    assert len(addresses_of(["clips", "demo", "b.mp4"])[0]) == 3
    with pytest.raises(EmotionError, match="given twice"):
        addresses_of(["clips", other])


@pytest.mark.parametrize("texts", [["a.mp4", "./a.mp4"], ["demo", "demo"], ["rtsp://b/2", "x=rtsp://B/2"]])
def test_a_source_that_is_given_twice_is_refused_beside_a_camera_too(texts: list[str]) -> None:
    with pytest.raises(EmotionError, match="given twice"):
        addresses_of([*texts, "rtsp://h/1"])
    addresses, mistakes = addresses_of([texts[0], "rtmp://h/1", "rtsp://h/1"])
    assert len(addresses) == 2
    assert "rtmp://, which is not supported" in mistakes[0]
