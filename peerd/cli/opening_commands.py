"""Commands that open something bigger: the dashboard and the demo. What they need is imported when they run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from p2pfinetune.options.sections import typed
from peerd.cli.common_options import AsJson, Home
from peerd.cli.output import finish, say
from peerd.control import answers
from peerd.control.client import Client, find_socket
from peerd.demo.plan import DemoOptions
from peerd.errors import UsageError
from peerd.machine.paths import Paths, absolute


def dashboard(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0: any free one.")] = 0,
    browse: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in your browser.")] = True,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Open the dashboard: one local page, for you alone, until Ctrl-C."""
    with Client(home) as client:
        client.status()
    from peerd.control.dashboard_proxy import run

    def opened(data: answers.DashboardOpened) -> None:
        finish("dashboard", data, as_json, lambda: _invite(data))

    run(find_socket(Paths.of(home)), port=port, browse=browse and not as_json, opened=opened)


def _invite(data: answers.DashboardOpened) -> None:
    from peerd.control.dashboard_proxy import TUNNEL

    say(f"The dashboard is at  {data.url}")
    say("The address works once, in one browser on this machine. Ctrl-C ends it.")
    if "SSH_CONNECTION" in os.environ:  # the browser is where the person sits
        say(f"For a browser on the machine that you came from, type there first:  {TUNNEL.format(port=data.port)}")
    sys.stdout.flush()


USUAL = DemoOptions()


def demo(
    peers: Annotated[int, typer.Option("--peers", **typed(DemoOptions, "peers"))] = USUAL.peers,
    rounds: Annotated[int, typer.Option("--rounds", **typed(DemoOptions, "rounds"))] = USUAL.rounds,
    trust: Annotated[str, typer.Option("--trust", **typed(DemoOptions, "trust"))] = USUAL.trust,
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", **typed(DemoOptions, "data"))] = USUAL.data,
    seed: Annotated[int, typer.Option("--seed", **typed(DemoOptions, "seed"))] = USUAL.seed,
    keep: Annotated[bool, typer.Option("--keep", **typed(DemoOptions, "keep"))] = USUAL.keep,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", **typed(DemoOptions, "report"))
    ] = USUAL.report,
    as_json: AsJson = False,
) -> None:
    """Run a whole network on this machine: a bootstrap node and real daemons that learn to trust one another."""
    from rich.console import Console

    from peerd.demo.run import run

    given: dict[str, Any] = {"peers": peers, "rounds": rounds, "trust": trust, "keep": keep, "seed": seed}
    given |= {name: absolute(path) for name, path in (("data", data), ("report", report)) if path is not None}
    try:
        options = msgspec.convert(given, DemoOptions)
    except msgspec.ValidationError as error:
        raise UsageError(str(error), "see: peerd demo --help") from error
    result = run(options, Console(stderr=as_json))
    finish("demo", result, as_json, lambda: None)
