"""Configuration files: tables of sources, passwords from elsewhere, and mistakes."""

from pathlib import Path

import pytest

from emotion_runtime.cli import main
from emotion_runtime.config import RunConfig, make_config
from emotion_runtime.config_file import read_toml
from emotion_runtime.credentials import with_secrets, without_passwords
from emotion_runtime.errors import EmotionError

KNOWN = RunConfig.__struct_fields__


def written(folder: Path, text: str) -> str:
    path = folder / "cameras.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def sources_of(folder: Path, text: str) -> list[str]:
    return make_config(read_toml(written(folder, text), KNOWN), {}).source


# --- sources ---


def test_sources_with_names(tmp_path: Path) -> None:
    text = """
        smoothing = 0.5
        [sources]
        door = "rtsp://10.0.0.2/1"
        desk = 0
        "back yard" = { uri = "http://10.0.0.3/video" }
        [sources.gate]
        uri = "rtsp://10.0.0.4/1"
        user = "viewer"
        password = "${GATE_PASSWORD}"
    """
    assert sources_of(tmp_path, text) == [
        "door=rtsp://10.0.0.2/1",
        "desk=0",
        "back yard=http://10.0.0.3/video",
        "gate=rtsp://viewer:${GATE_PASSWORD}@10.0.0.4/1",
    ]


def test_sources_as_a_list_of_tables_and_texts(tmp_path: Path) -> None:
    tables = '[[source]]\nname = "door"\nuri = "rtsp://10.0.0.2/1"\n[[source]]\nname = "desk"\nuri = 0\n'
    assert sources_of(tmp_path, tables) == ["door=rtsp://10.0.0.2/1", "desk=0"]
    mixed = 'source = ["demo", { name = "door", uri = "a.mp4" }]\n[sources]\nyard = "b.mp4"'
    assert sources_of(tmp_path, mixed) == ["demo", "door=a.mp4", "yard=b.mp4"]


def test_user_and_password_may_have_any_characters(tmp_path: Path) -> None:
    text = '[sources.door]\nuri = "rtsp://10.0.0.2/1"\nuser = "a b"\npassword = "p@s/s:${END}"'
    assert sources_of(tmp_path, text) == ["door=rtsp://a%20b:p%40s%2Fs%3A${END}@10.0.0.2/1"]


def test_a_file_of_windows_may_begin_with_a_mark(tmp_path: Path) -> None:
    assert sources_of(tmp_path, "\ufeff[sources]\r\ndoor = 0\r\n") == ["door=0"]


def test_sources_of_the_command_line_replace_those_of_the_file(tmp_path: Path) -> None:
    file = read_toml(written(tmp_path, '[sources]\ndoor = "rtsp://10.0.0.2/1"'), KNOWN)
    assert make_config(file, {"source": ["demo"]}).sources == ["demo"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smothing = 1", "unknown key smothing; did you mean smoothing?"),
        ('[source]\ndoor = "a.mp4"', "for sources with names, write [sources]"),
        ('[surces]\ndoor = "a.mp4"', "unknown key surces; did you mean source"),
        ('sources = ["a.mp4"]', "for sources with names, write [sources] and below it lines such as door ="),
        ('[sources]\ndoor = "a.mp4"\ndoor = "b.mp4"', "not valid TOML"),
        ('[sources]\ndoor = "a.mp4"\njsonl = "x"', "the option jsonl is below [sources]; move it above"),
        ("[sources]\ndoor = true", "source door: its address is true"),
        ('[sources]\ndoor = ""', "source door: the address is missing"),
        ('[sources.door]\nuser = "me"', "source door: the address is missing"),
        ('[sources.door]\nurl = "a.mp4"', "source door: unknown key url; did you mean uri?"),
        (
            '[sources.door]\nuri = "rtsp://a"\npassword = "x"',
            "source door: there is a password without a user",
        ),
        ('[sources.door]\nuri = "rtsp://a"\nuser = 1', "source door: user: expected text in quotes"),
        ('[sources.door]\nuri = "a.mp4"\nuser = "me"', "source door: user and password are for addresses"),
        ('[sources.door]\nuri = "rtsp://b@a"\nuser = "me"', "source door: the address has a user already"),
        ('[sources]\n"a/b" = "a.mp4"', "source a/b: expected a name of letters, digits, spaces and _.-"),
        ('[[source]]\nuri = "a.mp4"', "source number 1 has no name; add a line such as name ="),
    ],
)
def test_each_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, expected: str
) -> None:
    assert main(["--config", written(tmp_path, text), "--print-config"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert line.startswith("emotion-runtime: error: --config")


def test_all_mistakes_are_told_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = "smothing = 1\n[sources]\ndoor = true\n[sources.yard]\nurl = 'a'"
    assert main(["--config", written(tmp_path, text)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("cameras.toml: ")[2].split(";")[0].split(":")[0] for line in lines] == [
        "unknown key smothing",
        "source door",
        "source yard",
    ]
    assert main(["--config", written(tmp_path, "smoothing = 'a'\nmax_frames = 'b'")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [line.partition("cameras.toml: ")[2] for line in errors] == [
        'smoothing = "a": expected a number',
        'max_frames = "b": expected a whole number',
    ]


# --- passwords ---


def test_placeholders_are_replaced_from_environment_and_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PASSWORD", "p@ss/w:rd?#%41${X}")
    monkeypatch.setenv("WHOLE", "rtsp://me:a%40b@cam/1")
    (tmp_path / "door").write_text("secret 1\n")
    encoded = "p%40ss%2Fw%3Ard%3F%23%2541%24%7BX%7D"
    assert with_secrets("door=rtsp://me:${PASSWORD}@cam/1") == f"door=rtsp://me:{encoded}@cam/1"
    assert with_secrets("door=${WHOLE}") == "door=rtsp://me:a%40b@cam/1"
    assert with_secrets(f"rtsp://me:${{file:{tmp_path}/door}}@cam") == "rtsp://me:secret%201@cam"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert with_secrets("rtsp://me:${file:door}@cam") == "rtsp://me:secret%201@cam"
    assert with_secrets("a$b{c}.mp4") == "a$b{c}.mp4"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://me:${NOT_SET_ANYWHERE}@cam", "variable NOT_SET_ANYWHERE, which a source needs, is not set"),
        ("rtsp://me:${EMPTY}@cam", "variable EMPTY, which a source needs, is empty"),
        ("rtsp://me:${file:/nowhere/door}@cam", "cannot be read (No such file or directory)"),
        (
            "rtsp://me:${file:/dev/null}@cam",
            "the file /dev/null, which holds the password of a source, is empty",
        ),
        ("rtsp://me:${a b}@cam", "a source has ${a b}; expected ${NAME}"),
        ("rtsp://me:${}@cam", "a source has ${}; expected ${NAME}"),
        ("rtsp://me:${HOME@cam", "a source has ${ without its }; expected ${NAME}"),
        ("rtsp://me:${HOME}${@cam", "a source has ${ without its }; expected ${NAME}"),
    ],
)
def test_missing_password_is_told_before_anything_is_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, expected: str
) -> None:
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises(EmotionError):
        with_secrets(text)
    assert main(["--source", text]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


# As cameras have them, without a password.
PLAIN = (
    "rtsp://cam/Streaming/Channels/101",
    "rtsp://cam:554/cam/realmonitor?channel=1&subtype=0",
    "rtsp://cam/axis-media/media.amp?videocodec=h264&resolution=1280x720",
    "rtsp://cam/h264Preview_01_main",
    "rtsp://cam/live/ch00_0",
    "rtsp://cam/MediaInput/h264/stream_1",
    "http://cam/mjpg/video.mjpg?camera=1&fps=15",
    "https://a.net/2026-11-27/front_door/index.m3u8",
    "v4l2:///dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920_0123ABCD-video-index0",
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://me:secret@cam:554/1", "rtsp://me:***@cam:554/1"),
        ("door=rtsp://me:secret@cam/1?a=b@c", "door=rtsp://me:***@c"),  # rather too much than too little
        ("rtsp://me:sec/ret@cam/1", "rtsp://me:***@cam/1"),
        ("rtsp://me:se@cret@cam/1", "rtsp://me:***@cam/1"),
        ("rtsp://me:${PASSWORD}@cam/1", "rtsp://me:${PASSWORD}@cam/1"),
        ("rtsp://me@cam/1", "rtsp://me@cam/1"),
        ("rtsp://cam:554/a@b", "rtsp://cam:554/a@b"),
        ("rtsp://[fe80::1]:554/a@b", "rtsp://[fe80::1]:554/a@b"),
        ("http://cam/snap?user=me&password=secret&x=1", "http://cam/snap?user=me&password=***&x=1"),
        (
            "http://cam/snap?loginpas=s&pwd=a&access_token=b",
            "http://cam/snap?loginpas=***&pwd=***&access_token=***",
        ),
        ("http://cam/snap?usr=me&psw=secret&x=1", "http://cam/snap?usr=me&psw=***&x=1"),
        ("rtsp://cam/user=me_password=secret_channel=1", "rtsp://cam/user=me_password=***"),
        (
            "gst:rtspsrc user-pw=secret location=rtsp://cam ! x",
            "gst:rtspsrc user-pw=*** location=rtsp://cam ! x",
        ),
        ("a=gst:a location=rtsp://cam user-pw='se cret' ! b", "a=gst:a location=rtsp://cam user-pw=*** ! b"),
        ("me:secret@cam/1", "me:***@cam/1"),
        # Passwords at unusual places.
        ("http://cam/snap.cgi?u=me&p=secret&ch=1", "http://cam/snap.cgi?u=me&p=***&ch=1"),
        ("https://a.net/a.m3u8?sv=2&sig=aB%2Fc#every=2", "https://a.net/a.m3u8?sv=2&sig=***#every=2"),
        ("http://cam/a?x=9f8e7d6c5b4a39281706", "http://cam/a?x=***"),
        ("rtsp://cam/live/admin/secret", "rtsp://cam/live/admin/***"),
        ("rtsp://cam/live/admin:secret/1", "rtsp://cam/live/admin:***/1"),
        ("rtsp://cam/password/s3cr3t/ch1", "rtsp://cam/password/***/ch1"),
        ("rtsps://cam:7441/aB3dEf9hIjKlMn0p?x", "rtsps://cam:7441/***?x"),
        ("door=https://cam/6ba7b810-9dad-11d1-80b4-00c04fd430c8/live", "door=https://cam/***/live"),
        ("rtsp://cam/live/admin/${PASSWORD}", "rtsp://cam/live/admin/${PASSWORD}"),
        ("http://cam/me:secret@/1", "http://cam/me:***/1"),
        ("http://cam/1#me:secret", "http://cam/1#me:***"),
        ("http://cam/1#secret", "http://cam/1#***"),
        ("http://cam/1?login=1&x=me:secret@b", "http://cam/1?login=***&x=me:***"),
        ("http://cam/1?%70wd=secret", "http://cam/1?pwd=***"),
        ("http://cam/1?user%3Dme%26pwd%3Dsecret", "http://cam/1?user=me&pwd=***"),
        ("http://cam/1?sessionid=secret", "http://cam/1?sessionid=***"),
        ("http://a/1?url=http://me:secret@b/&x=1", "http://a/1?url=http://me:***@b/&x=1"),
        ("http://a/1?url=://://", "http://a/1?url=://://"),
        (
            "http://cam/1?ratio=16:9&at=12:30:05.5#every=0.5",
            "http://cam/1?ratio=16:9&at=12:30:05.5#every=0.5",
        ),
        ("http://cam/admin/snapshot.cgi", "http://cam/admin/snapshot.cgi"),
        *((address, address) for address in PLAIN),
        ("monkey=demo", "monkey=demo"),
        ("people.mp4", "people.mp4"),
    ],
)
def test_passwords_are_never_printed(capsys: pytest.CaptureFixture[str], text: str, shown: str) -> None:
    assert without_passwords(text) == shown
    assert main(["--source", text, "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert f'source = ["{shown}"]' in printed
    assert ("# Passwords are shown as ***." in printed) == (shown != text)
    assert main(["--source", text, "--source", text]) == 2
    assert text == shown or text not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["rtsp://me:s3cret@cam/1"],
        ["rtsp://me:s3cret@cam/1", "rtsp://me:s3cret@cam/2"],
        ["--camera", "rtsp://me:s3cret@cam/1"],
        ["--sorce=rtsp://me:s3cret@cam/1"],
        ["--window", "http://cam/?password=s3cret"],
        ["--config", "cameras.toml"],
    ],
)
def test_mistakes_with_addresses_print_no_password(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    written(tmp_path, 'source = ["rtsp://me:s3cret@cam/1", "rtsp://me:s3cret@cam/2", 1]')
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "s3cret" not in line
    assert "***" in line
