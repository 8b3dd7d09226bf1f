"""`peerd-bootstrap`: the command line of the rendezvous node."""

from __future__ import annotations

import json
import os
import random
import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

import platformdirs
import typer

from p2pfinetune.system import interpreter, streams
from peerd.errors import PeerdError, UsageError
from peerd.machine.paths import NO_HOME, expanded
from peerd.machine.shortages import grant_descriptors

SCHEMA_VERSION = 1
INTERRUPTED = 130  # as shells report Ctrl-C
HOME_VARIABLE = "PEERD_BOOTSTRAP_HOME"
NEW_IDENTITY = (
    "the id of this node is new, made for this start ({}). Daemons that were given an address with another id do not "
    "find it: give them the one below, or put the old file back"
)
DEFAULT_LISTEN = ("/ip4/0.0.0.0/tcp/4001",)

_ClickError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="The rendezvous node of peerd: tells peers about one another, and nothing else.",
)


@app.callback()
def _commands() -> None:
    """The rendezvous node of peerd: tells peers about one another, and nothing else."""


@app.command(
    epilog="Example: peerd-bootstrap start --listen /ip4/0.0.0.0/tcp/4001\n\n"
    "Exit codes: 0 stopped as asked, 1 cannot listen or use its key, 2 bad usage."
)
def start(
    listen: Annotated[list[str] | None, typer.Option(metavar="MULTIADDR", help="Where to listen; repeatable.")] = None,
    group_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Pre-shared key of a closed group, 64 hexadecimal digits; the same as of its peers."
        ),
    ] = None,
    home: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the identity key is kept.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout once it listens.")] = False,
) -> None:
    """Listen, print the address to paste, and serve until SIGTERM or Ctrl-C."""
    import trio

    from bootstrap import service
    from peerd.wire.keys import PeerKey, load_group_key

    dice = random.Random(secrets.randbits(64))
    try:
        grant_descriptors()
        identity = home_of(home) / "identity"
        is_new = not identity.exists()
        key = PeerKey.load_or_create(identity)
        psk = load_group_key(group_key) if group_key else None
        os.chdir(interpreter.FOLDER)  # the folder that this was typed in may go while the node runs

        def announce(addresses: tuple[str, ...]) -> None:
            _announce(key.peer_id, addresses, NEW_IDENTITY.format(identity) if is_new else "", as_json=as_json)

        counts = trio.run(service.run, key, tuple(listen or DEFAULT_LISTEN), psk, announce, dice, _warn)
    except PeerdError as error:
        _fail(error.code, str(error), error.hint, as_json=as_json)
        raise typer.Exit(error.exit_code) from error
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    typer.echo(f"stopped; {told or 'nobody came'}", err=True)


def home_of(given: Path | None) -> Path:
    """The folder of the identity key: given, from the environment, or this user's."""
    if given is None and (named := os.environ.get(HOME_VARIABLE)):
        given = Path(named)
    try:
        return expanded(given) if given else Path(platformdirs.user_data_dir("peerd-bootstrap"))
    except RuntimeError as error:
        raise UsageError(NO_HOME, "name the folder: --home DIR, or set HOME") from error


def main() -> None:
    """The entry point of `peerd-bootstrap`."""
    streams.settle()
    sys.exit(run(sys.argv[1:]))


def run(given: list[str]) -> int:
    """Parse and serve; the exit code. Bad usage is told as everything else is."""
    try:
        found: Any = typer.main.get_command(app).main(given, prog_name="peerd-bootstrap", standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
    except _ClickError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
            typer.echo(error.format_message())
        else:
            _fail("usage", error.format_message(), "see: peerd-bootstrap start --help", as_json="--json" in given)
        return 2
    return found if isinstance(found, int) else 0


def _announce(peer_id: str, addresses: tuple[str, ...], new_identity: str, *, as_json: bool) -> None:
    if new_identity:
        typer.echo(f"peerd-bootstrap: {new_identity}", err=True)
    if as_json:
        data = {"peer_id": peer_id, "addresses": list(addresses), "is_new_identity": bool(new_identity)}
        typer.echo(json.dumps({"schema_version": SCHEMA_VERSION, "command": "start", "status": "ok", "data": data}))
        sys.stdout.flush()
        return
    typer.echo("Peers of any network can meet here. Give one of these to `peerd start --bootstrap`:")
    for address in addresses:
        typer.echo(f"  {address}")
    typer.echo("Ctrl-C stops it.")
    sys.stdout.flush()


def _warn(words: str) -> None:
    """Of something that its owner can mend while it serves."""
    typer.echo(f"peerd-bootstrap: {words}", err=True)


def _fail(code: str, message: str, hint: str, *, as_json: bool) -> None:
    if as_json:
        error = {"code": code, "message": message, "hint": hint}
        typer.echo(
            json.dumps({"schema_version": SCHEMA_VERSION, "command": "start", "status": "error", "error": error})
        )
    typer.echo(f"peerd-bootstrap: {message}" + (f"\n  {hint}" if hint else ""), err=True)
