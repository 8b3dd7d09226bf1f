"""One attacker from the command line: what it managed is one line of JSON."""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from tests.attackers import floods, slow
from tests.attackers.line import Target

ATTACKS: dict[str, Callable[..., Awaitable[Counter[str]]]] = {
    "slow-loris": slow.slow_loris,
    "slow-streams": slow.slow_streams,
    "slow-register": partial(slow.slow_streams, protocols=("/peerd/rendezvous/2",)),
    "slow-reader": slow.slow_reader,
    "connection-flood": floods.connection_flood,
    "identity-flood": floods.identity_flood,
    "stream-flood": floods.stream_flood,
    "frame-flood": floods.frame_flood,
    "window-flood": floods.window_flood,
    "huge-prefix": floods.huge_prefix,
    "announcement-flood": floods.announcement_flood,
    "announcement-flood-of-one": partial(floods.announcement_flood, identities=False),
    "control-flood": floods.control_flood,
    "register-flood": floods.register_flood,
}


def attack(arguments: Sequence[str] | None = None, begun: Callable[[], None] = lambda: None) -> dict[str, int]:
    """As a command line says; what was managed. `begun` is called at the first success."""
    parser = argparse.ArgumentParser(prog="python -m tests.attackers", description=__doc__)
    parser.add_argument("name", choices=ATTACKS)
    parser.add_argument("address", help="multiaddr of the target, /p2p/ included")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--network", default="a" * 64, help="digest of the target's network: peerd id --json")
    parser.add_argument(
        "--source", default="", help="own address to come from, such as 127.0.0.2; many: of 127.0.0.0/8"
    )
    parser.add_argument("--blob", help="a blob the target holds, for slow-reader")
    given = parser.parse_args(arguments)
    logging.disable()  # the library's complaints about what it is made to do
    target = Target(given.address, given.network, given.source, begun=begun)
    options = {"blob": given.blob} if given.blob else {}
    return dict(trio.run(partial(ATTACKS[given.name], target, given.seconds, **options)))


if __name__ == "__main__":
    print(json.dumps(attack()), flush=True)  # noqa: T201  # it is the answer
