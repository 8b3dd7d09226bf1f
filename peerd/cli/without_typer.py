"""Looking, typed plainly, without the command-line library, which takes longer to load than a daemon to answer.

Scripts ask `peerd status --json` every second, on machines that are busy training. Anything but a verb
that the table of verbs calls quick, with --home and --json, is left to `app`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peerd.cli import display
from peerd.cli.output import facts, finish, say
from peerd.control import answers, verbs
from peerd.control.client import Client, find_socket
from peerd.control.questions import Nothing
from peerd.control.verbs import QUICK, Verb, whole
from peerd.errors import NotHealthy
from peerd.machine.paths import Paths
from peerd.status import Status


def look(command: str, home: Path | None, as_json: bool) -> int:
    """Ask and show; the exit code, which says of a status whether the daemon is well, for scripts and monitors."""
    ask, shown = LOOKS[command]
    found = ask(home)
    finish(command, found, as_json, lambda: shown(found, home))
    return NotHealthy.exit_code if isinstance(found, Status) and not found.health.ok else 0


def plainly_typed(given: Sequence[str]) -> tuple[str, Path | None, bool] | None:
    """Command, home, --json; None if anything else was typed."""
    if not given or given[0] not in QUICK:
        return None
    home, as_json, rest = None, False, list(given[1:])
    while rest:
        word = rest.pop(0)
        if word == "--json":
            as_json = True
        elif word == "--home" and rest and not rest[0].startswith("-"):
            home = Path(rest.pop(0))
        else:
            return None
    return given[0], home, as_json


def _of_daemon(verb: Verb[Nothing, Any]) -> Callable[[Path | None], Any]:
    def ask(home: Path | None) -> Any:
        with Client(home) as client:
            return client.ask(verb, Nothing(), whole)

    return ask


def _metrics(home: Path | None) -> answers.Metrics:
    with Client(home) as client:
        return answers.Metrics(text=client.metrics())


def _paths(home: Path | None) -> dict[str, str]:
    """Known without a daemon."""
    found = Paths.of(home)
    return {**found.named(), "socket": str(find_socket(found))}


LOOKS: dict[str, tuple[Callable[[Path | None], Any], Callable[[Any, Path | None], None]]] = {
    "status": (_of_daemon(verbs.STATUS), display.status),
    "peers": (_of_daemon(verbs.PEERS), lambda found, home: display.peers(found.peers, found.banned, home)),
    "id": (_of_daemon(verbs.IDENTITY), lambda found, _: display.identity(found)),
    "metrics": (_metrics, lambda found, _: say(found.text.rstrip("\n"))),
    "paths": (_paths, lambda found, _: facts(list(found.items()))),
}
"""How to ask and how to show, for every verb that the table calls quick."""
