"""Commands that open something bigger: the dashboard and the demo. What they need is imported when they run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from p2pfinetune.nano import about_model
from p2pfinetune.options.sections import typed
from peerd.cli.common_options import AsJson, Home
from peerd.cli.output import finish, in_home, say
from peerd.control import answers
from peerd.control.client import Client, find_socket
from peerd.demo.plan import DemoOptions
from peerd.errors import NotRunning, PeerdError, UsageError
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


def serve(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0: any free one.")] = 11435,
    socket: Annotated[
        Path | None,
        typer.Option("--socket", metavar="PATH", help="A Unix socket instead, for you alone and without a key."),
    ] = None,
    no_key: Annotated[
        bool,
        typer.Option(
            "--no-key", help="For clients that cannot send one: any program of yours on this machine may ask then."
        ),
    ] = False,
    show_key: Annotated[bool, typer.Option("--show-key", help="Print the key.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Answer editors, chat windows and scripts with your models, by OpenAI's and Ollama's interfaces, until Ctrl-C."""
    paths = Paths.of(home)
    if not paths.home.is_dir():
        raise NotRunning(
            f"no daemon was ever started in {paths.home}", "start one: peerd start --data FOLDER   or name its --home"
        )
    from peerd.serving import key as keys
    from peerd.serving.models import OFFERED
    from peerd.serving.run import run

    found = None if no_key or socket is not None else keys.load_or_create(paths.serve_key)
    at = None if socket is None else absolute(socket)
    answering = "" if as_json else _who_answers(home)

    def opened(bound: int) -> None:
        data = answers.ServeOpened(
            url=f"http://127.0.0.1:{bound}" if bound else "",
            port=bound or None,
            socket="" if at is None else str(at),
            key_file="" if found is None else str(paths.serve_key),
            key=found.text if found is not None and (found.is_new or show_key) else "",
            models=[*OFFERED],
        )
        finish("serve", data, as_json, lambda: _served(data, home, answering))

    run(paths, port=port, socket=at, key=None if found is None else found.text, opened=opened)


def _served(data: answers.ServeOpened, home: Path | None, answering: str) -> None:
    from peerd.serving.gate import can_tell
    from peerd.serving.models import OFFERED

    if data.port is None:
        say(f"Your models are at the socket {data.socket}, for you alone: OpenAI's interface at /v1, Ollama's at /api")
    else:
        say(f"Your models are at  {data.url}/v1  for OpenAI's clients, and at  {data.url}  for Ollama's.")
    for name, says in OFFERED.items():
        say(f"  {name:<9} {says}")
    if data.key:
        say(f"Key: {data.key}")
    elif data.key_file:
        say(in_home("Key: as it was printed the first time; again with: peerd serve --show-key", home))
    elif data.port is not None:
        others = "" if can_tell() else ", and anybody else with an account on it"
        say(f"No key is asked for: any program of yours on this machine may ask{others}.")
    say(answering)
    say("Ctrl-C ends it.")
    sys.stdout.flush()


def _who_answers(home: Path | None) -> str:
    """Whether there is a daemon yet, and whether its base is one to talk to."""
    try:
        with Client(home) as client:
            now = client.status()
    except PeerdError as error:
        return f"There is nobody to answer yet: {error}. It is asked again with every question."
    return f"The base model: {about_model(now.model) or now.model}."


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
