"""Every command of docs/data.md is accepted by `emotion-train prepare-data`."""

import re
import shlex
from pathlib import Path

import pytest

from emotion_train.commands import prepare_data
from emotion_train.prepare.settings import PrepareSettings

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "data.md"
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("emotion-train prepare-data ")
]


def test_there_are_commands():
    assert len(COMMANDS) == 5


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str):
    args = prepare_data.parser().parse_args(shlex.split(command)[2:])
    assert args.out == Path("shards") or args.out == Path("/data/shards")
    assert (args.videos is None) == (args.captions is None) == (args.from_authors is not None)


def test_options_that_are_named_exist():
    named = set(re.findall(r"`(--[a-z-]+)", GUIDE.read_text(encoding="utf-8"))) - {
        "--data"
    }  # of emotion-train pretrain
    known = {f"--{name.replace('_', '-')}" for name in vars(prepare_data.parser().parse_args(["--out", ""]))}
    assert named <= known


def test_values_of_the_paper_are_the_defaults():
    assert prepare_data.settings_of(
        prepare_data.parser().parse_args(["--out", "", "--sentiment", "m"])
    ) == PrepareSettings(sentiment="m")
    filters = PrepareSettings().filters
    text = GUIDE.read_text(encoding="utf-8")
    for option, value in (
        ("--min-seconds", f"longer than {filters.min_seconds:g} s"),
        ("--max-seconds", f"shorter than {filters.max_seconds:g} s"),
        ("--min-characters", f"at least {filters.min_characters} characters"),
        ("--max-neutral", f"at most {filters.max_neutral}"),
        ("--min-frames", f"at least {filters.min_frames} frames"),
    ):
        assert re.search(rf"\| [^|]*{re.escape(value)}[^|]*\| `{option}` \|", text)
