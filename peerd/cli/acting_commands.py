"""Commands that ask the daemon to do something: stop, unban; and, in files of their own, debug, export, generate."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from p2pfinetune.names import PeerId
from peerd.cli.common_options import AsJson, Home
from peerd.cli.debug import debug as debug  # noqa: PLC0414  # it is one of them, in a file of its own
from peerd.cli.export_command import export as export  # noqa: PLC0414
from peerd.cli.generate_command import generate as generate  # noqa: PLC0414
from peerd.cli.output import finish, in_home, say
from peerd.cli.which_peer import chosen
from peerd.control import answers
from peerd.control.client import Client
from peerd.control.peer_names import shown
from peerd.errors import PeerdError, Unreachable
from peerd.machine.lock import ask_to_end, holder
from peerd.machine.paths import Paths

STOP_SECONDS = 20.0  # a daemon promises to end within 15
LOOK_SECONDS = 0.05
_GO_ON = "Stopped after {seconds:.1f} s. Go on any time with: peerd start"


def stop(home: Home = None, as_json: AsJson = False) -> None:
    """Stop the daemon and wait until it has ended. What was trained is kept."""
    begun = time.monotonic()
    paths = Paths.of(home)
    running = holder(paths.lock)
    with Client(home) as client:
        try:
            client.stop("peerd stop")
        except Unreachable:
            ask_to_end(paths.lock)
    while holder(paths.lock) is not None:
        if time.monotonic() - begun > STOP_SECONDS:
            force = f"kill -9 {running.pid}" if running and running.pid else "see: peerd status"
            raise PeerdError(f"the daemon has not ended within {STOP_SECONDS:.0f} s", force)
        time.sleep(LOOK_SECONDS)
    seconds = round(time.monotonic() - begun, 2)
    data = answers.Stopped(stopped=True, seconds=seconds)
    finish("stop", data, as_json, lambda: say(in_home(_GO_ON.format(seconds=seconds), home)))


def unban(
    peer: Annotated[
        str,
        typer.Argument(
            metavar="PEER", help="The end of its id, or a name that no other peer bears.", show_default=False
        ),
    ],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Lift the ban of a peer: what it sends is looked at again."""
    with Client(home) as client:
        now = client.status()
        banned = {one.peer_id: one.name for one in now.banned}
        others = [(now.name, now.peer_id), *((one.name, one.peer_id) for one in now.neighbours)]
        found = chosen(peer, [(name, peer_id) for peer_id, name in banned.items()], "banned", others)
        client.unban(found)
    name = shown(banned[PeerId(found)])
    lifted = f"The ban of {found} is lifted" + (f": it calls itself {name}" if name else "")
    finish("unban", answers.Unbanned(peer_id=found), as_json, lambda: say(lifted))
