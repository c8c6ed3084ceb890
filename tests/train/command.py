"""Commands of emotion-train, run in this process as the shell would run them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from emotion_train.cli import main
from emotion_train.commands import pretrain
from emotion_train.model import PRESETS, ModelConfig


@dataclass
class Command:
    """A command. presets: the models that `pretrain` offers."""

    name: str
    presets: Mapping[str, ModelConfig] | None = None

    def main(self, argv: Sequence[str]) -> int:
        """Run with these options; returns the exit status."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pretrain, "PRESETS", self.presets or PRESETS)
            return main([self.name, *argv])
