"""What the knobs of a server are called where the user gives them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, final


@final
@dataclass(frozen=True)
class Knobs:
    """Names of knobs in messages: of a node of the config (``judge.key_variable=X``), or flags of a command.

    `renamed` are those that are called otherwise.
    """

    written: Literal["config", "flags"]
    node: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)

    def name(self, knob: str) -> str:
        """
        >>> Knobs("config", "judge").name("key_variable"), Knobs("flags").name("key_variable")
        ('judge.key_variable', '--key-variable')
        """
        if knob in self.renamed:
            return self.renamed[knob]
        return f"{self.node}.{knob}" if self.written == "config" else f"--{knob.replace('_', '-')}"

    def absent(self, knob: str) -> str:
        """How to say that there is none."""
        return f"say {self.name(knob)}=null" if self.written == "config" else f"leave {self.name(knob)} out"
