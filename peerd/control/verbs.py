"""Every verb of the control interface, once: what it is called, what is asked, what is answered, how long it may take.

A verb is a row here, and all that knows of it follows:

    peerd.control.api       the route `/v1/NAME`; the handler is bound to the row, and its types are checked against it
    peerd.control.client    a method of both clients, made at the end of this file
    peerd.cli.commands      the command `peerd NAME`, if there is an example of it
    docs/protocol.md        the table of endpoints

So a new verb is a row, a handler and a command: docs/how-to/add-a-verb.md. Nothing heavy is loaded here, since
`peerd status` reads this table each time.

Both clients share one method a verb. It builds the question and hands it to the client's own `ask`, which gives the
answer, or a coroutine of it. A type checker cannot say that of one function, so it is told that the method is a
`Method`: by the client through which it is reached, it answers or has to be awaited. Nothing of that is there at run
time; what is called is an ordinary function. Two lists of one-line methods would say each signature twice, a file that
a script writes would have to be written anew with every row, and `__getattr__` has no types.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, cast, overload

import msgspec

from p2pfinetune.speech import Piece
from peerd.control import answers, drawings, questions
from peerd.control.questions import Nothing
from peerd.status import HealthNow, Status

Asked = TypeVar("Asked", bound=msgspec.Struct)
Answer = TypeVar("Answer")
Given = TypeVar("Given")
Given_co = TypeVar("Given_co", covariant=True)
P = ParamSpec("P")

QUICK_SECONDS = 10.0  # the daemon's loop is never held for long; a machine that swaps may be
SLOW_SECONDS = 1800.0  # the worker finishes what it does, then generates, exports or evaluates


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb(Generic[Asked, Answer]):
    """One row: a question that a daemon answers."""

    name: str
    """Also the last part of its path, and of its command if it has one."""
    method: Literal["GET", "POST"]
    """GET looks and changes nothing."""
    question: type[Asked]
    """The body of a POST, or the query of a GET; `Nothing` if there is none."""
    answer: type[Answer]
    """As JSON; `str` is plain text."""
    says: str
    """What it does, in one line."""
    patience_seconds: float = QUICK_SECONDS
    """How long a client waits for the answer."""
    example: str = ""
    """Of its command, `peerd NAME`, if people type it."""
    is_quick: bool = False
    """Whether the command, typed plainly, is answered without the command-line library, which takes longer to load."""
    is_stream: bool = False
    """Whether the answer comes again and again, as server-sent events; such a one has no method here."""

    @property
    def path(self) -> str:
        """Where it is asked."""
        return f"/v1/{self.name}"


STOP = Verb(
    name="stop",
    method="POST",
    question=questions.StopQuestion,
    answer=answers.StopHeard,
    says="Ask the daemon to stop; the answer, HTTP status 202, is that it has heard it.",
    example="peerd stop",
)
STATUS = Verb(
    name="status",
    method="GET",
    question=Nothing,
    answer=Status,
    says="What the daemon is doing.",
    example="peerd status --json",
    is_quick=True,
)
PEERS = Verb(
    name="peers",
    method="GET",
    question=Nothing,
    answer=answers.PeersNow,
    says="Everyone of the network that it knows, and of whom nothing is wanted for now.",
    example="peerd peers",
    is_quick=True,
)
TRUST = Verb(
    name="trust",
    method="GET",
    question=Nothing,
    answer=answers.TrustNow,
    says="The last trust row, with history.",
    example="peerd trust alice",
)
ROUNDS = Verb(
    name="rounds",
    method="GET",
    question=questions.LastRounds,
    answer=answers.RoundsDone,
    says="Finished rounds, oldest first.",
    example="peerd rounds --last 20",
)
SENT = Verb(
    name="sent",
    method="GET",
    question=questions.LastRounds,
    answer=answers.Sent,
    says="What left this device, of the last so many rounds.",
    example="peerd sent --last 5",
)
IDENTITY = Verb(
    name="id",
    method="GET",
    question=Nothing,
    answer=answers.Identity,
    says="Peer id and addresses.",
    example="peerd id",
    is_quick=True,
)
PATHS = Verb(
    name="paths",
    method="GET",
    question=Nothing,
    answer=dict[str, str],
    says="Where the daemon's files are.",
    example="peerd paths --home ~/second-peer",
    is_quick=True,
)
METRICS = Verb(
    name="metrics",
    method="GET",
    question=Nothing,
    answer=str,
    says="Every figure, as Prometheus text.",
    example="peerd metrics | grep peerd_refusals_total",
    is_quick=True,
)
UNBAN = Verb(
    name="unban",
    method="POST",
    question=questions.UnbanQuestion,
    answer=answers.Unbanned,
    says="Lift the ban of a peer, which is bad usage if it is not banned.",
    example="peerd unban alice",
)
GENERATE = Verb(
    name="generate",
    method="POST",
    question=questions.GenerateQuestion,
    answer=answers.Continuations,
    says="The base, own and personal model continue a prompt.",
    patience_seconds=SLOW_SECONDS,
    example='peerd generate "Dear all," --max-tokens 40',
)
RESPOND = Verb(
    name="respond",
    method="POST",
    question=questions.RespondQuestion,
    answer=Piece,
    says="One model goes on with a prompt, or answers in a chat: begun, then pieces of text, then ended, or failed.",
    patience_seconds=SLOW_SECONDS,
    is_stream=True,
)
EXPORT = Verb(
    name="export",
    method="POST",
    question=questions.ExportQuestion,
    answer=answers.ExportedFolder,
    says="Write one model in a form that other programs load, the adapter alone or the whole; of which, and the files.",
    patience_seconds=SLOW_SECONDS,
    example="peerd export ./my-adapter",
)
EVAL = Verb(
    name="eval",
    method="POST",
    question=questions.EvalQuestion,
    answer=answers.Evaluated,
    says="Measure every model on a text, or on the own test split, which is looked at once.",
    patience_seconds=SLOW_SECONDS,
    example="peerd eval ~/letters.txt",
)
HEALTH = Verb(
    name="health",
    method="GET",
    question=Nothing,
    answer=HealthNow,
    says="Whether it makes progress, and why not; HTTP status 503 if not.",
)
PANELS = Verb(
    name="panels",
    method="GET",
    question=Nothing,
    answer=drawings.PanelsDrawn,
    says="Every panel of the dashboard, drawn.",
)
EVENTS = Verb(
    name="events",
    method="GET",
    question=Nothing,
    answer=Status,
    says="The status now, then whenever it changes; a slow watcher is dropped.",
    is_stream=True,
)
TEST = Verb(
    name="test",
    method="POST",
    question=Nothing,
    answer=answers.TestLosses,
    says="Open the test split, for a report.",
    patience_seconds=SLOW_SECONDS,
)

DEBUG = Verb(
    name="debug",
    method="POST",
    question=questions.DebugQuestion,
    answer=answers.Debugged,
    says="The flight recorder: the last events of the core as a file that can be run again, or as a story.",
    patience_seconds=60.0,
    example="peerd debug record what-happened.record",
)

VERBS: tuple[Verb[Any, Any], ...] = tuple(row for row in tuple(globals().values()) if isinstance(row, Verb))
"""The table, in its order."""

QUICK = frozenset(verb.name for verb in VERBS if verb.is_quick)
"""Names of those commands."""

DATA: dict[str, Any] = {verb.name: verb.answer for verb in VERBS if verb.example} | answers.OF_COMMANDS
"""Type of `data` by command, as `--json` prints it; `demo` has its own in peerd.demo."""


class Asks(Protocol):
    """A client that waits for the answer."""

    def ask(self, verb: Verb[Asked, Answer], question: Asked, take: Callable[[Answer], Given]) -> Given:
        """What is taken of the answer."""
        ...


class AsksLater(Protocol):
    """A client of a coroutine."""

    def ask(
        self, verb: Verb[Asked, Answer], question: Asked, take: Callable[[Answer], Given]
    ) -> Coroutine[Any, Any, Given]:
        """What is taken of the answer, to be awaited."""
        ...


class Method(Protocol[P, Given_co]):
    """What `method` makes, as a type checker sees it."""

    @overload
    def __get__(self, client: None, kind: type) -> Callable[Concatenate[Any, P], Any]: ...
    @overload
    def __get__(self, client: Asks, kind: type) -> Callable[P, Given_co]: ...
    @overload
    def __get__(self, client: AsksLater, kind: type) -> Callable[P, Coroutine[Any, Any, Given_co]]: ...


def method(
    verb: Verb[Asked, Answer], question: Callable[P, Asked], take: Callable[[Answer], Given]
) -> Method[P, Given]:
    """A method of both clients: its arguments are those of `question`, what it gives is what `take` takes."""

    def asking(client: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        return client.ask(verb, question(*args, **kwargs), take)

    return cast("Method[P, Given]", signed(asking, question, verb.name, verb.says))


Made = TypeVar("Made", bound=Callable[..., Any])


def signed(asking: Made, question: Callable[..., Any], name: str, says: str | None) -> Made:
    """A method of a client as `help()` shows it: with the arguments of its question."""
    taken = inspect.signature(question)
    client = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = taken.replace(parameters=[client, *taken.parameters.values()])
    vars(asking).update(__signature__=signature)
    asking.__name__, asking.__doc__ = name, says
    return asking


def whole(answer: Answer) -> Answer:
    """Taken as it is."""
    return answer


def plain(verb: Verb[Nothing, Answer]) -> Method[[], Answer]:
    """A method that takes nothing and gives the answer."""
    return method(verb, Nothing, whole)


class Methods:
    """What both clients can be asked."""

    status = plain(STATUS)
    health = plain(HEALTH)
    peers = method(PEERS, Nothing, lambda found: found.peers)
    banned = method(PEERS, Nothing, lambda found: found.banned)
    trust = plain(TRUST)
    rounds = method(ROUNDS, questions.last_rounds, lambda found: found.rounds)
    sent = method(SENT, questions.last_rounds, whole)
    identity = plain(IDENTITY)
    paths = plain(PATHS)
    panels = plain(PANELS)
    metrics = plain(METRICS)
    stop = method(STOP, questions.stop, lambda _: None)
    generate = method(GENERATE, questions.generate, whole)
    export = method(EXPORT, questions.export, whole)
    test = plain(TEST)
    evaluate = method(EVAL, questions.evaluate, whole)
    debug = method(DEBUG, questions.debug, whole)
    unban = method(UNBAN, questions.unban, lambda _: None)
