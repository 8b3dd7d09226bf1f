"""Ask a running daemon from Python.

    from peerd import Client

    with Client() as c:
        print(c.status().perplexity.personal)
        for status in c.watch():
            print(status.round, status.sentence)

`AsyncClient` is its twin. Both speak HTTP over the daemon's Unix socket and nothing else; every answer is a frozen
value. NotRunning is raised if no daemon runs, Unreachable if one does without a socket. The plain one uses the
standard library alone, because `peerd status` has to answer at once.
"""

from __future__ import annotations

import http.client
import os
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Self, TypeVar, assert_type

import msgspec

from p2pfinetune.speech import Said
from peerd.control import questions
from peerd.control.answers import Continuations, ExportedFolder
from peerd.control.credentials import peer_uid
from peerd.control.request import Reading, Request, read_answer, request_of, told
from peerd.control.verbs import EVENTS, RESPOND, Methods, Verb, signed
from peerd.errors import NotHealthy, NotRunning, PeerdError, Unreachable
from peerd.machine import known_types
from peerd.machine.lock import Holder, died, holder
from peerd.machine.paths import Paths
from peerd.status import NeighbourNow, RoundRecord, Status

HOST = "peerd"  # the only host that the daemon answers to
QUEUE_SECONDS = 0.01  # between two tries when too many wait to be let in
MAX_EVENT_BYTES = 16 * 1024 * 1024

known_types.work_out()  # here, since a program may have a client in each of its threads

Asked = TypeVar("Asked", bound=msgspec.Struct)
Answer = TypeVar("Answer")
Given = TypeVar("Given")


Self_ = TypeVar("Self_")
P = ParamSpec("P")


def taking(
    question: Callable[P, Asked],
) -> Callable[[Callable[[Self_, Asked], Given]], Callable[Concatenate[Self_, P], Given]]:
    """A method that asks a question, as one that takes what the question is made of."""

    def wrapped(method: Callable[[Self_, Asked], Given]) -> Callable[Concatenate[Self_, P], Given]:
        def asking(client: Self_, /, *args: P.args, **kwargs: P.kwargs) -> Given:
            return method(client, question(*args, **kwargs))

        return signed(asking, question, method.__name__, method.__doc__)

    return wrapped


class Client(Methods):
    """A daemon, seen from a thread. One question at a time; safe to keep open."""

    def __init__(self, home: str | os.PathLike[str] | None = None, *, socket_path: Path | None = None) -> None:
        self._paths = Paths.of(Path(home) if home is not None else None)
        self._socket = socket_path or find_socket(self._paths)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is kept between questions."""

    def ask(self, verb: Verb[Asked, Answer], question: Asked, take: Callable[[Answer], Given]) -> Given:
        """Any question of the table of verbs; what is taken of the answer. The methods of `Methods` are made of it."""
        return take(read_answer(verb, *self._send(request_of(verb, question))))

    def watch(self) -> Iterator[Status]:
        """The status now, then whenever it changes, until the daemon stops."""
        connection = self._connect(60.0)  # the daemon sends a sign of life every 15 seconds
        try:
            connection.request("GET", EVENTS.path, headers={"Host": HOST})
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise told(response.read())
            for line in iter(lambda: response.readline(MAX_EVENT_BYTES), b""):
                if line.startswith(b"data: "):
                    yield msgspec.json.decode(line[6:], type=Status)
        except TimeoutError as error:
            raise NotHealthy("the daemon has gone silent", "look at: peerd status") from error
        except (http.client.HTTPException, ConnectionError):
            return  # it ended in the middle of a line
        finally:
            connection.close()

    @taking(questions.respond)
    def respond(self, question: questions.RespondQuestion) -> Generator[Said, None, None]:
        """What a model says, piece by piece; whoever closes it ends it in the worker."""
        return self.said(question)

    def said(self, question: questions.RespondQuestion) -> Generator[Said, None, None]:
        """The same of a question."""
        request = request_of(RESPOND, question)
        connection, reading = self._connect(request.seconds), Reading()
        try:
            connection.request(request.method, request.path, request.body, {"Host": HOST})
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise told(response.read())
            for line in iter(lambda: response.readline(MAX_EVENT_BYTES), b""):
                if (said := reading.line(line.decode())) is not None:
                    yield said
        except TimeoutError as error:
            raise _silent(request.seconds, self._paths) from error
        except (http.client.HTTPException, ConnectionError) as error:
            raise _gone(self._paths) from error
        finally:
            connection.close()
        if not reading.is_whole:
            raise _gone(self._paths)

    def _send(self, request: Request) -> tuple[int, bytes]:
        connection = self._connect(request.seconds)
        try:
            connection.request(request.method, request.path, request.body, {"Host": HOST})
            response = connection.getresponse()
            return response.status, response.read()
        except TimeoutError as error:
            raise _silent(request.seconds, self._paths) from error
        except (http.client.HTTPException, ConnectionError) as error:
            raise _gone(self._paths) from error
        finally:
            connection.close()

    def _connect(self, seconds: float) -> _UnixConnection:
        connection = _UnixConnection(self._socket, seconds)
        require_ours(self._socket)
        try:
            connection.connect()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise _nobody(self._paths) from error
        except PermissionError as error:
            raise _foreign(self._socket) from error
        except TimeoutError as error:
            raise _silent(seconds, self._paths) from error
        except OSError as error:
            raise _nobody(self._paths) from error
        if peer_uid(connection.sock) not in {None, os.getuid()}:
            connection.close()
            raise _foreign(self._socket)
        return connection


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__(HOST, timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deadline = time.monotonic() + (self.timeout or 0.0)
        try:
            self.sock.settimeout(self.timeout)
            while not self._is_connected(self.sock):
                if time.monotonic() > deadline:
                    raise TimeoutError
                time.sleep(QUEUE_SECONDS)
        except OSError:
            self.close()
            raise

    def _is_connected(self, line: socket.socket) -> bool:
        """False if as many wait to be let in as the kernel lets wait; it does not wait with us, given a limit."""
        try:
            line.connect(str(self._path))
        except BlockingIOError:
            return False
        return True


class AsyncClient(Methods):
    """A daemon, seen from a coroutine: `async with AsyncClient() as c: await c.status()`."""

    def __init__(self, home: str | os.PathLike[str] | None = None, *, socket_path: Path | None = None) -> None:
        import httpx

        self._paths = Paths.of(Path(home) if home is not None else None)
        self._socket = socket_path or find_socket(self._paths)
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(self._socket)),
            base_url=f"http://{HOST}",
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, verb: Verb[Asked, Answer], question: Asked, take: Callable[[Answer], Given]) -> Given:
        """Any question of the table of verbs; what is taken of the answer. The methods of `Methods` are made of it."""
        return take(read_answer(verb, *await self._send(request_of(verb, question))))

    async def watch(self) -> AsyncIterator[Status]:
        """The status now, then whenever it changes, until the daemon stops."""
        import httpx

        require_ours(self._socket)
        try:
            async with self._http.stream("GET", EVENTS.path, timeout=60.0) as response:
                if response.status_code != httpx.codes.OK:
                    raise told(await response.aread())
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        yield msgspec.json.decode(line[6:], type=Status)
        except httpx.ConnectError as error:
            raise _nobody(self._paths) from error
        except httpx.TimeoutException as error:
            raise NotHealthy("the daemon has gone silent", "look at: peerd status") from error
        except httpx.TransportError:
            return  # it ended in the middle of a line

    @taking(questions.respond)
    def respond(self, question: questions.RespondQuestion) -> AsyncGenerator[Said, None]:
        """What a model says, piece by piece; whoever closes it ends it in the worker."""
        return self.said(question)

    async def said(self, question: questions.RespondQuestion) -> AsyncGenerator[Said, None]:
        """The same of a question."""
        import httpx

        require_ours(self._socket)
        request, reading = request_of(RESPOND, question), Reading()
        try:
            async with self._http.stream(
                request.method, request.path, content=request.body, timeout=request.seconds
            ) as response:
                if response.status_code != httpx.codes.OK:
                    raise told(await response.aread())
                async for line in response.aiter_lines():
                    if (said := reading.line(line)) is not None:
                        yield said
        except httpx.ConnectError as error:
            raise _nobody(self._paths) from error
        except httpx.TimeoutException as error:
            raise _silent(request.seconds, self._paths) from error
        except httpx.TransportError as error:
            raise _gone(self._paths) from error
        if not reading.is_whole:
            raise _gone(self._paths)

    async def _send(self, request: Request) -> tuple[int, bytes]:
        import httpx

        require_ours(self._socket)
        try:
            response = await self._http.request(
                request.method, request.path, content=request.body, timeout=request.seconds
            )
        except httpx.ConnectError as error:
            raise _nobody(self._paths) from error
        except httpx.TimeoutException as error:
            raise _silent(request.seconds, self._paths) from error
        except httpx.TransportError as error:
            raise _gone(self._paths) from error
        return response.status_code, response.content


def require_ours(path: Path) -> None:
    """Raises PeerdError if somebody else made the socket or its folder: it would be told prompts, and believed."""
    try:
        owners = {path.lstat().st_uid, path.parent.stat().st_uid}
    except OSError:
        return  # nobody is there, or not for us: connecting tells
    if owners != {os.getuid()}:
        raise _foreign(path)


def find_socket(paths: Paths) -> Path:
    """Where the daemon of this home listens. It wrote that into its lock; else where it would by this environment."""
    found = holder(paths.lock)
    return Path(found.socket) if found and found.socket else paths.socket


def _foreign(path: Path) -> PeerdError:
    """Often it is one's own all the same: of a service, or of a container that one enters as root."""
    try:
        whose = f" (uid {path.lstat().st_uid})"
    except OSError:
        whose = ""
    return PeerdError(
        f"the socket {path} belongs to another user{whose}, and is not spoken to",
        "if you started that daemon as this other user, ask as that user: sudo -u NAME peerd status   "
        "or see where yours would be: peerd paths",
    )


def _nobody(paths: Paths) -> NotRunning | Unreachable:
    if (found := holder(paths.lock)) is not None:
        return _unreachable(found)
    if end := died(paths.lock):
        return NotRunning(f"no daemon runs here: {end}", _again(paths))
    if os.path.exists(paths.config):  # noqa: PTH110  # which asks again where it has no right to look
        return NotRunning(f"no daemon runs here: that of {paths.home} has ended", _again(paths))
    return NotRunning(f"no daemon runs here: none was started in {paths.home}", "start one: peerd start --data FOLDER")


def _unreachable(found: Holder) -> Unreachable:
    if not found.pid:
        return Unreachable("a daemon is starting or stopping here right now", "ask again in a moment: peerd status")
    return Unreachable(
        f"process {found.pid} runs here, but its control socket {found.socket} is not there (yet, or any more); "
        "a deleted one is made again within seconds",
        "ask again in a moment: peerd status   or end it, which works without: peerd stop",
    )


def _gone(paths: Paths) -> NotRunning:
    return NotRunning("the daemon ended before it answered", _again(paths))


def _again(paths: Paths) -> str:
    return f"start it again: peerd start   its log: {paths.log}"


def _silent(seconds: float, paths: Paths) -> NotHealthy:
    found = holder(paths.lock)
    force = f", and where that is in vain: kill -9 {found.pid}   (nothing is lost)" if found and found.pid else ""
    return NotHealthy(
        f"the daemon did not answer within {seconds:.0f} s: it is suspended, or the machine is far too busy",
        f"wait, or end it: peerd stop{force}",
    )


if TYPE_CHECKING:  # what a caller is given, so that the type checker holds the table of verbs to it

    def _held(client: Client) -> None:
        assert_type(client.status(), Status)
        assert_type(client.rounds(last=3), list[RoundRecord])
        assert_type(client.generate("Dear all,", seed=1), Continuations)
        assert_type(client.unban("12D3KooW"), None)
        assert_type(client.respond("Dear all,", model="own"), Generator[Said, None, None])

    async def _held_later(client: AsyncClient) -> None:
        assert_type(await client.paths(), dict[str, str])
        assert_type(await client.peers(), list[NeighbourNow])
        assert_type(await client.export(Path("adapter"), "best"), ExportedFolder)
