"""Every command of `peerd`, once: its function is loaded when it is called, since each costs time. Values only."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """One of them."""

    name: str
    module: str
    """Of this package."""
    function: str
    example: str


COMMANDS: tuple[Command, ...] = (
    Command(
        "start", "start", "start", "peerd start --data ~/notes --bootstrap /ip4/192.168.1.20/tcp/4001/p2p/12D3KooW..."
    ),
    Command("stop", "acting_commands", "stop", "peerd stop"),
    Command("status", "looking_commands", "status", "peerd status --json"),
    Command("peers", "looking_commands", "peers", "peerd peers"),
    Command("trust", "looking_commands", "trust", "peerd trust alice"),
    Command("rounds", "looking_commands", "rounds", "peerd rounds --last 20"),
    Command("sent", "looking_commands", "sent", "peerd sent --last 5"),
    Command("id", "looking_commands", "identity", "peerd id"),
    Command("paths", "looking_commands", "paths", "peerd paths --home ~/second-peer"),
    Command("read", "read_command", "read", "peerd read --data ~/notes"),
    Command("metrics", "looking_commands", "metrics", "peerd metrics | grep peerd_refusals_total"),
    Command("unban", "acting_commands", "unban", "peerd unban alice"),
    Command("generate", "acting_commands", "generate", 'peerd generate "Dear all," --max-tokens 40'),
    Command("export", "acting_commands", "export", "peerd export ./my-adapter"),
    Command("dashboard", "opening_commands", "dashboard", "peerd dashboard --port 8088"),
    Command("demo", "opening_commands", "demo", "peerd demo --peers 4 --rounds 6"),
)

NAMES = frozenset(command.name for command in COMMANDS)

OF_A_HOME = tuple(command.name for command in COMMANDS if command.name != "demo")
"""Those that are of one daemon and take --home."""
