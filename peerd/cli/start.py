"""`peerd start`: remember the options, then become the daemon, or leave one running in the background."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from p2pfinetune.nano import about_model
from p2pfinetune.system import interpreter
from peerd import config_file
from peerd.cli import options
from peerd.cli.common_options import AsJson, Home
from peerd.cli.models_command import made_ready
from peerd.cli.output import complain, fail, in_home, write_document
from peerd.control import answers
from peerd.control.client import Client
from peerd.errors import AlreadyRunning, NotHealthy, NotRunning, PeerdError, StoreError, UsageError
from peerd.machine import faults
from peerd.machine.lock import already_running, holder
from peerd.machine.paths import Paths
from peerd.machine.shortages import grant_descriptors
from peerd.status import Status

if TYPE_CHECKING:
    import subprocess

READY_SECONDS = 180.0  # loading torch and a small model on a busy machine takes half a minute; a big one takes longer
LOOK_SECONDS = 0.1
NO_MEMORY = "out of memory"  # how the worker's last error begins then
DEATHS = 2  # of a worker that has not been ready yet, after which nobody should wait for it
LAST_LINES = 12
MAX_SAID = 64 * 1024  # bytes at the end of a log in which the last words stand

Detach = Annotated[bool, typer.Option("--detach", help="Leave it running in the background, and say when it is ready.")]


def start(*, home: Home = None, detach: Detach = False, as_json: AsJson = False, **typed: Any) -> None:
    """Start the daemon. Options are remembered: give them once, then only `peerd start`."""
    faults.arm(os.environ)
    grant_descriptors()
    paths = Paths.of(home)
    if (running := holder(paths.lock)) is not None:
        raise already_running(running)
    forget = _remember(paths, options.given(typed))
    try:
        made_ready(config_file.read_config(paths.config).model)
        code = _in_background(paths, as_json) if detach else _in_foreground(paths, as_json)
    except (NotRunning, NotHealthy):
        raise  # of one that still starts in the background
    except PeerdError:
        forget()  # a model that does not exist or a port that is taken must not stand in the way of the next start
        raise
    if code:
        raise typer.Exit(code)


start.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # Typer reads it
    [
        *options.parameters(),
        *(p for p in inspect.signature(start, eval_str=True).parameters.values() if p.kind is p.KEYWORD_ONLY),
    ]
)
start.__annotations__ = {p.name: p.annotation for p in inspect.signature(start).parameters.values()}


def _remember(paths: Paths, given: dict[str, Any]) -> Callable[[], None]:
    """Write the options down, once all are found to be right; what is returned takes that back, if the start fails."""
    from peerd.cli.check import checked, open_group_warning

    before, remembered = config_file.contents(paths.config), config_file.read(paths.config)
    config = checked(config_file.merged(remembered, given, paths.config))
    paths.prepare()
    config_file.write_config(paths.config, config)
    news = {"group", "group_key"} & set(given)
    if (not remembered or news) and (warning := open_group_warning(config)):
        complain(in_home(warning, _given_home(paths)))
    return (lambda: config_file.put_back(paths.config, before)) if given else (lambda: None)


def _in_foreground(paths: Paths, as_json: bool) -> int:
    from peerd.daemon.assembly import run
    from peerd.machine.logs import is_stderr

    config = config_file.read_config(paths.config)
    _leave_folder()
    ready = []

    def announce(now: Status) -> None:
        ready.append(now)
        if as_json or not is_stderr(paths.log):  # in the log of a daemon with --detach nobody types anything
            _started(paths, now, as_json, log=None)

    try:
        return _on_a_loop(run(paths, config, ready=announce))
    except PeerdError as error:
        if not ready:
            raise
        return fail("start", error, as_json=False, home=_given_home(paths))  # the one document is printed already


def _leave_folder() -> None:
    """All paths are absolute by now. The folder this was typed in may be deleted or unmounted while the daemon runs."""
    interpreter.guard_children()
    os.chdir(interpreter.FOLDER)


def _on_a_loop(daemon: Coroutine[Any, Any, int]) -> int:
    """On uvloop if there is one."""
    import asyncio

    try:
        import uvloop
    except ImportError:
        return asyncio.run(daemon)
    return int(uvloop.run(daemon))


def _in_background(paths: Paths, as_json: bool) -> int:
    import subprocess

    from peerd.machine.ending import deaf_to_hangups

    begun = paths.log.stat().st_size if paths.log.exists() else 0
    with _opened(paths.log) as log, deaf_to_hangups():
        process = subprocess.Popen(  # noqa: S603  # ourselves
            interpreter.command("-m", "peerd", "start", *(["--home", str(paths.home)] if _is_own_home(paths) else [])),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=interpreter.FOLDER,
            env=interpreter.environment(os.environ),
        )
    home = _given_home(paths)
    try:
        return _until_ready(process, paths, as_json, begun)
    except KeyboardInterrupt:
        complain(in_home("It goes on starting in the background. To end it: peerd stop", home))
        raise


def _until_ready(process: subprocess.Popen[bytes], paths: Paths, as_json: bool, begun: int) -> int:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _Ended(process.returncode, paths.log, begun)
        if (now := _now(paths)) is not None and now.state != "starting":
            _started(paths, now, as_json, log=paths.log)
            return 0
        _require_life(now)
        time.sleep(LOOK_SECONDS)
    return _still_starting(paths, as_json)


def _opened(log: Path) -> IO[bytes]:
    try:
        return log.open("ab")
    except OSError as error:
        raise StoreError(f"cannot write the log {log}: {error.strerror}", "look at its rights") from error


def _is_own_home(paths: Paths) -> bool:
    return paths.config.parent == paths.home


def _given_home(paths: Paths) -> Path | None:
    """What --home said; the folders of a user who has no home folder cannot be named without it."""
    return paths.home if _is_own_home(paths) else None


def _now(paths: Paths) -> Status | None:
    """The status; None while nobody answers. The state is no longer `starting` once the worker has model and text.

    A daemon of another home may answer: two homes of one user have one socket if neither was given with --home.
    """
    try:
        with Client(_given_home(paths), socket_path=paths.socket) as client:
            return client.status() if client.paths()["home"] == str(paths.home) else None
    except (NotRunning, NotHealthy):
        return None


def _require_life(now: Status | None) -> None:
    """Raises NotHealthy if the worker has died again and again before it was ready: it will not be soon.

    One that runs out of memory is started again in a lighter way, until there is advice for a person.
    """
    if now is None or now.state != "starting" or now.worker.restarts < DEATHS:
        return
    if now.worker.memory.advice:
        raise NotHealthy(now.worker.memory.advice, "the log says more: peerd paths   to end it: peerd stop")
    if not now.worker.last_error.startswith(NO_MEMORY):
        raise NotHealthy(
            f"the daemon runs, but its worker died {now.worker.restarts} times while it was starting "
            f"({now.worker.last_error}); it is started again and again",
            "the log says more: peerd paths   to end it: peerd stop",
        )


def _still_starting(paths: Paths, as_json: bool) -> int:
    with Client(_given_home(paths), socket_path=paths.socket) as client:
        now = client.status()
    _require_life(now)
    complain(f"The daemon still loads after {READY_SECONDS:.0f} s; it goes on in the background.")
    _started(paths, now, as_json, log=paths.log)
    return 0


def _started(paths: Paths, now: Status, as_json: bool, log: Path | None) -> None:
    running = holder(paths.lock)
    data = answers.Started(
        pid=running.pid if running else 0,
        peer_id=now.peer_id,
        name=now.name,
        group=now.group,
        state=now.state,
        addresses=now.addresses,
        home=str(paths.home),
        socket=str(paths.socket),
        invitations=now.invitations,
        log=str(log) if log else None,
    )
    if as_json:
        write_document(answers.document("start", data))
        return
    complain(_what_next(data, paths))
    if said := about_model(now.model):
        complain(f"  {said}")


def _what_next(data: answers.Started, paths: Paths) -> str:
    home = f" --home {paths.home}" if _is_own_home(paths) else ""
    is_ready = "is ready" if data.state != "starting" else "runs, and is not ready yet"
    lines = [f"peerd {is_ready} (process {data.pid}, {data.peer_id}).", f"  see what it does:  peerd status{home}"]
    lines += [f"  watch it:          peerd dashboard{home}", f"  stop it:           peerd stop{home}"]
    lines += [f"  others join with:  {invitation}" for invitation in data.invitations[:3]]
    lines += (
        [] if data.invitations else [f"  nobody can join:   it has no address for other machines; see: peerd id{home}"]
    )
    lines += [f"  its log:           {data.log}"] if data.log else ["  Ctrl-C stops it."]
    return "\n".join(lines)


def last_words(log: str) -> list[str]:
    """The last lines; the whole of what the command told at its end, however long it is."""
    lines = log.strip().splitlines()
    told = next((i for i in range(len(lines) - 1, -1, -1) if lines[i].startswith("peerd start:")), len(lines))
    return lines[min(told, max(0, len(lines) - LAST_LINES)) :]


class _Ended(PeerdError):  # as its siblings
    """A daemon that was started in the background ended before it was ready; it said why in its log."""

    def __init__(self, code: int, log: Path, begun: int) -> None:
        with log.open("rb") as file:
            file.seek(max(begun, file.seek(0, os.SEEK_END) - MAX_SAID))
            said = last_words(file.read(MAX_SAID).decode(errors="replace"))
        super().__init__(
            "the daemon ended while it was starting" + "".join(f"\n  {line}" for line in said), f"log: {log}"
        )
        self.exit_code = code if 0 < code < 128 else 1  # type: ignore[misc]  # of this one ending
        known = {kind.exit_code: kind.code for kind in (UsageError, AlreadyRunning)}
        self.code = known.get(self.exit_code, PeerdError.code)  # type: ignore[misc]  # likewise
