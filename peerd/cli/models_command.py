"""`peerd models`: the base models on this machine, with what each takes; and getting, measuring and removing one.

It needs no daemon. What a daemon of this home measures while it trains is taken over when the list is made.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from p2pfinetune.errors import LearningError
from p2pfinetune.model.listing import ModelHere
from p2pfinetune.system import interpreter
from peerd import config_file
from peerd.cli.common_options import AsJson, Home
from peerd.cli.output import INTERRUPTED, complain, facts, finish, say, say_bold, table
from peerd.cli.waiting import shown_progress
from peerd.control.answers import ModelsListed
from peerd.control.client import Client
from peerd.control.render import NOTHING, printable, size
from peerd.errors import NotHealthy, NotRunning, UsageError
from peerd.machine.paths import Paths
from peerd.worker.ram_limit import MIB, limit_mib

ACTIONS = ("get", "measure", "remove")
PROGRAM = "p2pfinetune.training.speed_here"

Action = Annotated[
    str,
    typer.Argument(metavar="[ACTION]", help="get, measure or remove a model; the list if absent.", show_default=False),
]
Name = Annotated[
    str,
    typer.Argument(
        metavar="[NAME]",
        help="Of one on the Hugging Face hub or in the list; of a single GGUF file there, OWNER/MODEL/FILE.gguf.",
        show_default=False,
    ),
]


def models(action: Action = "", name: Name = "", home: Home = None, as_json: AsJson = False) -> None:
    """List the base models on this machine: size, licence, memory to train each, tokens a second; or get one."""
    if action and action not in ACTIONS:
        raise UsageError(f"{action!r} is not one of {', '.join(ACTIONS)}", "to get a model: peerd models get NAME")
    if action and not name:
        raise UsageError(f"which model to {action}?", f"peerd models {action} NAME; those here: peerd models")
    mine = _mine(Paths.of(home))
    _remember_daemon(home)
    with as_usage():
        found = {"": listed, "get": got, "measure": measured, "remove": removed}[action](name, mine)
    finish("models", found, as_json, lambda: _told(action, name, found))


def listed(_name: str, mine: str) -> ModelsListed:
    """All of them."""
    from p2pfinetune.model.catalogue import models_here

    return ModelsListed(models=models_here(mine))


def got(name: str, mine: str) -> ModelsListed:
    """One, fetched from the hub; of a GGUF file, the file, and it is converted."""
    from p2pfinetune.model.catalogue import find
    from p2pfinetune.model.hub import download

    with shown_progress() as tell, ends_at_once(name):
        path = download(name, tell)
    if path.is_file():
        made_ready(str(path))
        return ModelsListed(models=[find(str(path), mine)])
    return ModelsListed(models=[find(name, mine)])


def measured(name: str, mine: str) -> ModelsListed:
    """One, trained for some seconds in a process of its own."""
    from p2pfinetune.model.catalogue import find, remember_speed

    find(name, mine)
    complain(f"training {name} for some seconds")
    remember_speed(name, _speed(name), "measured")
    return ModelsListed(models=[find(name, mine)])


def removed(name: str, mine: str) -> ModelsListed:
    """One, deleted from its cache; not the one of this home."""
    from p2pfinetune.model.catalogue import find, remove

    model = find(name, mine)
    if model.is_mine:
        raise UsageError(f"{name} is the model of this home", "choose another for it first: peerd start --model NAME")
    return ModelsListed(models=[model], freed_bytes=remove(model))


def made_ready(name: str) -> None:
    """Convert or fetch a base model while somebody watches, before a daemon loads it. Raises UsageError."""
    from p2pfinetune.model.base import folder_of, resolve_model
    from p2pfinetune.model.hub import download, snapshot_here

    with as_usage():
        path = Path(resolve_model(name))
        if path.is_file():
            folder_of(name, complain)
        elif not path.is_dir() and snapshot_here(name) is None:
            complain(f"fetching {name} from the Hugging Face hub")
            with shown_progress() as tell, ends_at_once(name):
                download(name, tell)


@contextmanager
def as_usage() -> Iterator[None]:
    """What is wrong with a model is the user's to mend."""
    try:
        yield
    except LearningError as error:
        raise UsageError(str(error), error.hint) from error


@contextmanager
def ends_at_once(name: str) -> Iterator[None]:
    """Ctrl-C ends a download now, and not when the files that are on their way are whole; nothing is lost by it."""

    def end(*_: Any) -> None:
        complain(f"stopped; what was fetched stays, and this goes on with it: peerd models get {name}")
        os._exit(INTERRUPTED)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _speed(name: str) -> float:
    from p2pfinetune.training.speed_here import SpeedHere

    done = subprocess.run(  # noqa: S603  # our own program
        interpreter.command("-m", PROGRAM, name),
        cwd=interpreter.FOLDER,
        env=interpreter.environment(os.environ),
        capture_output=True,
        check=False,
    )
    try:
        said = msgspec.json.decode(done.stdout, type=SpeedHere)
    except msgspec.DecodeError:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise UsageError(f"{name} could not be measured: {last[:300]}", "look at its memory: peerd models") from None
    if said.error:
        raise UsageError(said.error, said.hint)
    return said.tokens_per_second


def _mine(paths: Paths) -> str:
    return str(config_file.read(paths.config).get("model", ""))


def _remember_daemon(home: Path | None) -> None:
    """How fast the daemon of this home trains, if one runs and has trained."""
    try:
        with Client(home) as client:
            now = client.status()
    except (NotRunning, NotHealthy):
        return
    if now.worker.tokens_per_second is not None:
        from p2pfinetune.model.catalogue import remember_speed

        remember_speed(now.model, now.worker.tokens_per_second, "daemon")


def _told(action: str, name: str, found: ModelsListed) -> None:
    if action == "remove":
        say(f"{name} is gone; {size(found.freed_bytes)} are free again")
        return
    if action:
        _one(found.models[0])
        return
    columns = [
        ("model", "text"),
        ("parameters", "text"),
        ("on disk", "bytes"),
        ("stored as", "text"),
        ("licence", "text"),
    ]
    columns += [("memory to train", "bytes"), ("tokens/s here", "rate"), ("", "text")]
    table(columns, [_row(model) for model in found.models])
    say()
    for model in found.models:
        _say_of(model)
    say("To get one: peerd models get NAME   to measure how fast it trains: peerd models measure NAME")


def _row(model: ModelHere) -> list[Any]:
    return [
        _short(model.name), millions(model.parameters), model.disk_bytes, model.numbers, licence(model),
        model.memory_bytes, model.tokens_per_second, _noted(model),
    ]  # fmt: skip


def _noted(model: ModelHere) -> str:
    if model.problem:
        return "unusable"
    if 0 < limit_mib(0) * MIB < (model.least_bytes or 0):
        return "too large for this machine"
    return "of this home" if model.is_mine else ""


def _one(model: ModelHere) -> None:
    say_bold(f"{_short(model.name)} is here")
    speed = f"{model.tokens_per_second:,.0f} tokens a second" if model.tokens_per_second else "not measured"
    memory = (
        f"{size(model.memory_bytes)}, at the least {size(model.least_bytes or 0)}" if model.memory_bytes else NOTHING
    )
    facts([
        ("title", printable(model.title) or NOTHING), ("parameters", millions(model.parameters)),
        ("stored as", f"{model.numbers}, {size(model.disk_bytes)}"), ("licence", licence(model)),
        ("memory", memory), ("training", speed), ("lies in", printable(model.path)),
    ])  # fmt: skip
    say(f"To train it: peerd start --model {_short(model.name)}")
    _say_of(model)


def _say_of(model: ModelHere) -> None:
    if model.says:
        say(model.says)
    if model.problem:
        say(f"{_short(model.name)}: {printable(model.problem)}")


def licence(model: ModelHere) -> str:
    """As it is stated."""
    return printable(model.licence) or "not stated"


def millions(count: int) -> str:
    """`135 M`, `1.5 B`."""
    return NOTHING if not count else f"{count / 1e9:.1f} B" if count >= 999.5e6 else f"{count / 1e6:.0f} M"


def _short(name: str) -> str:
    """A path below the home folder as it can be typed."""
    own = str(Path("~").expanduser()) + "/"
    return printable("~/" + name.removeprefix(own) if name.startswith(own) else name)
