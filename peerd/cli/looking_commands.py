"""Commands that only look: status, peers, trust, rounds, sent, id, paths, metrics."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from peerd.cli import display
from peerd.cli.common_options import AsJson, Home
from peerd.cli.output import finish
from peerd.cli.which_peer import chosen
from peerd.cli.without_typer import look
from peerd.control import answers, questions
from peerd.control.client import Client


def status(home: Home = None, as_json: AsJson = False) -> None:
    """Say what the daemon is doing, how good the model is, and what to do next. Exit code 5: it is not healthy."""
    if code := look("status", home, as_json):
        raise typer.Exit(code)


def peers(home: Home = None, as_json: AsJson = False) -> None:
    """List the peers of my network: trust, round, bytes, and what was refused from them."""
    look("peers", home, as_json)


def id(home: Home = None, as_json: AsJson = False) -> None:  # noqa: A001  # as it is typed
    """Print my peer id and the addresses that others can type after --peer."""
    look("id", home, as_json)


def paths(home: Home = None, as_json: AsJson = False) -> None:
    """Print where everything is kept. Needs no daemon and creates nothing."""
    look("paths", home, as_json)


def metrics(home: Home = None, as_json: AsJson = False) -> None:
    """Print every figure as Prometheus text: rounds, losses, peers, refusals, bans, bytes, memory."""
    look("metrics", home, as_json)


def trust(
    peer: Annotated[str, typer.Argument(metavar="[PEER]", help="A peer's name or the end of its id.")] = "",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show whom my model listens to, what that rests on, and how it came about."""
    with Client(home) as client:
        found = client.trust()
    shown = _chosen(found, peer) if peer else found
    finish("trust", shown, as_json, lambda: display.one_trusted(shown) if peer else display.trust(shown))


def rounds(
    last: Annotated[int, typer.Option("--last", min=1, max=questions.MAX_ROUNDS, help="How many rounds.")] = 20,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """List finished rounds: losses, perplexity, whether the merge was taken, and why not."""
    with Client(home) as client:
        found = client.rounds(last)
    finish("rounds", answers.RoundsDone(rounds=found), as_json, lambda: display.rounds(found))


def sent(
    last: Annotated[int, typer.Option("--last", min=1, max=questions.MAX_ROUNDS, help="How many rounds.")] = 20,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show what left this device: updates, bytes, to whom, and what they betray at most."""
    with Client(home) as client:
        found = client.sent(last)
    finish("sent", found, as_json, lambda: display.sent(found))


def _chosen(found: answers.TrustNow, asked: str) -> answers.TrustNow:
    peer_id = chosen(asked, [(peer.name, peer.peer_id) for peer in found.row], "in my last trust row")
    return msgspec.structs.replace(found, row=[peer for peer in found.row if peer.peer_id == peer_id])
