"""Every command of `peerd`: those that ask a verb come from the table of verbs, the others are told here. Values only.

The function of a command is loaded when it is called, since each costs time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from peerd.control.verbs import PATHS, VERBS, Verb


class Command(NamedTuple):
    name: str
    module: str
    """Of this package."""
    function: str
    example: str


OF_THEIR_OWN = {"eval": ("eval_command", "evaluate")}
"""Module and function of commands that fill a file, or whose name means something else in Python."""


def asked_by(verb: Verb[Any, Any]) -> Command:
    """A verb that looks is asked by `looking_commands`, one that acts by `acting_commands`, under its own name."""
    module = "looking_commands" if verb.method == "GET" else "acting_commands"
    return Command(verb.name, *OF_THEIR_OWN.get(verb.name, (module, verb.name)), verb.example)


_ASKED = tuple(asked_by(verb) for verb in VERBS if verb.example)
_TEXT = _ASKED.index(asked_by(PATHS)) + 1  # what becomes of the text is told behind where things are

COMMANDS: tuple[Command, ...] = (
    Command(
        "start", "start", "start", "peerd start --data ~/notes --bootstrap /ip4/192.168.1.20/tcp/4001/p2p/12D3KooW..."
    ),
    *_ASKED[:_TEXT],
    Command("data", "data_command", "data", "peerd data --data ~/notes --show 3"),
    Command("models", "models_command", "models", "peerd models get HuggingFaceTB/SmolLM2-135M-Instruct"),
    *_ASKED[_TEXT:],
    Command("dashboard", "opening_commands", "dashboard", "peerd dashboard --port 8088"),
    Command("serve", "opening_commands", "serve", "peerd serve --port 11435"),
    Command("demo", "opening_commands", "demo", "peerd demo --peers 4 --rounds 6"),
)
"""In the order of `peerd --help`."""

NAMES = frozenset(command.name for command in COMMANDS)

OF_A_HOME = tuple(command.name for command in COMMANDS if command.name != "demo")
"""Those that are of one daemon and take --home."""
