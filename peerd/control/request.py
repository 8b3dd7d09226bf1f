"""One question as HTTP carries it, and what comes back as a value or an error: for both clients. Pure."""

from __future__ import annotations

import http.client
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

import msgspec

from p2pfinetune.errors import UNREADABLE
from p2pfinetune.speech import Ended, Said
from peerd.control import answers
from peerd.control.questions import checked
from peerd.control.verbs import Verb
from peerd.errors import Busy, NotHealthy, PeerdError, StoreError, TooLong, TransportError, UsageError, WorkerError

Asked = TypeVar("Asked", bound=msgspec.Struct)
Answer = TypeVar("Answer")

_ERRORS = {kind.code: kind for kind in (UsageError, TooLong, StoreError, TransportError, WorkerError, NotHealthy, Busy)}


class Request(msgspec.Struct, frozen=True):
    """One question, however it is sent."""

    method: str
    path: str
    body: bytes | None
    seconds: float


def request_of(verb: Verb[Asked, Any], question: Asked) -> Request:
    """As the daemon would take it. Raises UsageError that names the field which it would not."""
    fields = msgspec.structs.asdict(checked(verb.question, msgspec.structs.asdict(question)))
    if verb.method == "GET":
        query = f"?{urlencode(fields)}" if fields else ""
        return Request(verb.method, verb.path + query, None, verb.patience_seconds)
    return Request(verb.method, verb.path, _body(fields), verb.patience_seconds)


def _body(fields: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(fields)
    except UnicodeEncodeError as error:
        raise UsageError("there are bytes in it that are no UTF-8", "write it in UTF-8") from error


def read_answer(verb: Verb[Any, Answer], status: int, body: bytes) -> Answer:
    """The answer. Raises the error that the daemon told, or PeerdError if it makes no sense."""
    if verb.answer is str:
        return cast("Answer", _text(status, body))
    if status >= http.client.BAD_REQUEST and b'"error"' in body[:16]:
        raise told(body)
    try:
        return msgspec.json.decode(body, type=verb.answer)
    except UNREADABLE as error:
        if status >= http.client.INTERNAL_SERVER_ERROR:
            raise PeerdError(
                f"the daemon failed at this question (HTTP {status})", "its log says why; where it is: peerd paths"
            ) from error
        raise PeerdError(
            f"the daemon's answer is not understood: {error}", "is it of another version? compare: peerd --version"
        ) from error


def _text(status: int, body: bytes) -> str:
    if status != http.client.OK:
        raise told(body)
    return body.decode("utf-8", "replace")


class Reading:
    """The events of an answer that a model gives, line by line."""

    def __init__(self) -> None:
        self._event = ""
        self.is_whole = False
        """Whether its end has come."""

    def line(self, text: str) -> Said | None:
        """What has been said with this line, if anything. Raises the error that the answer ended with."""
        name, _, data = text.rstrip("\r\n").partition(": ")
        if name == "event":
            self._event = data
        if name != "data":
            return None
        if self._event == "failed":
            raise error_of(msgspec.json.decode(data, type=answers.Problem))
        said: Said = msgspec.json.decode(data, type=Said)
        self.is_whole = isinstance(said, Ended)
        return said


def told(body: bytes) -> PeerdError:
    """The error that the daemon answered instead."""
    try:
        return error_of(msgspec.json.decode(body, type=answers.Failure).error)
    except UNREADABLE:
        return PeerdError(f"the daemon answered {body[:200]!r}")


def error_of(found: answers.Problem) -> PeerdError:
    """What was told, as it would have been raised here."""
    return _ERRORS.get(found.code, PeerdError)(found.message, found.hint)
