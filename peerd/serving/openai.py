"""OpenAI's interface: /v1/models, /v1/chat/completions, /v1/completions, whole or as server-sent events.

https://platform.openai.com/docs/api-reference/chat and .../completions. Of a request only what is known here is read;
`_REFUSED` names what would change the answer and does not exist here.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from p2pfinetune.errors import UNREADABLE
from p2pfinetune.speech import Chance, Ended, Piece, Said
from peerd.control.questions import MAX_NEW_TOKENS, RespondQuestion, checked
from peerd.control.responses import bounded_body
from peerd.errors import PeerdError, UsageError
from peerd.serving.failures import failed, problem, refused, told
from peerd.serving.models import Offered, UnknownModel, model_of, offered
from peerd.serving.upstream import AskedDaemon, BegunAnswer, ClientGone, Nobody, Streamed, Whole, answering, whole

MAX_BODY = 512 * 1024  # bytes; the daemon takes half of it as a question
USUAL_TOKENS = 16  # of a completion, as OpenAI's own; a chat goes on to the end of the context
OWNER = "peerd"


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class MessagePart(msgspec.Struct, frozen=True):
    """Of what a message says."""

    type: str
    text: str = ""


class ChatMessage(msgspec.Struct, frozen=True):
    role: str
    content: str | list[MessagePart] | None = None


class OpenAIRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What both kinds of request have."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None

    @property
    def tells_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class ChatRequest(OpenAIRequest, frozen=True, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None


class CompletionRequest(OpenAIRequest, frozen=True, kw_only=True):
    """POST /v1/completions."""

    prompt: str | list[Any] = ""
    suffix: str | None = None
    logprobs: int | None = None
    echo: bool | None = None
    best_of: int | None = None


_REFUSED: dict[str, Callable[[Any], bool]] = {
    "n": lambda given: given > 1,
    "best_of": lambda given: given > 1,
    "presence_penalty": lambda given: given != 0,
    "frequency_penalty": lambda given: given != 0,
    "logit_bias": bool,
    "tools": bool,
    "functions": bool,
    "suffix": bool,
    "echo": bool,
    "response_format": lambda given: given.get("type") != "text",
    "modalities": lambda given: given != ["text"],
}
"""What would be another answer, by when it would."""


class Wrong(Exception):  # of who asked
    """A request that is not answered, and why."""

    def __init__(self, said: str, param: str | None = None) -> None:
        super().__init__(said)
        self.param = param


class Frame:
    """How one kind of answer is written."""

    def __init__(self, asked: OpenAIRequest, *, is_chat: bool) -> None:
        self.is_chat, self.model, self.tells_usage = is_chat, asked.model, asked.tells_usage
        self._offset = 0
        self._head = {
            "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": asked.model,
        }

    def whole(self, found: Whole, with_chances: bool) -> bytes:
        """All at once."""
        chances = self._logprobs(found.chances) if with_chances else None
        choice: dict[str, Any] = {"index": 0, "logprobs": chances, "finish_reason": found.ended.reason}
        if self.is_chat:
            choice["message"] = {"role": "assistant", "content": found.text, "refusal": None}
        else:
            choice["text"] = found.text
        kind = "chat.completion" if self.is_chat else "text_completion"
        return msgspec.json.encode({**self._head, "object": kind, "choices": [choice], "usage": usage(found.ended)})

    def first(self) -> bytes:
        """Who speaks; of a completion nothing."""
        return self._chunk({"role": "assistant", "content": ""}, None) if self.is_chat else b""

    def piece(self, piece: Piece) -> bytes:
        chances = self._logprobs(piece.chances) if piece.chances else None
        return self._chunk({"content": piece.text}, chances)

    def last(self, ended: Ended) -> bytes:
        """How it ended, its usage if wanted, and the mark of the end."""
        final = self._chunk({}, None, ended.reason)
        tokens = {**self._chunk_head, "choices": [], "usage": usage(ended)}
        return final + (event(tokens) if self.tells_usage else b"") + b"data: [DONE]\n\n"

    @property
    def _chunk_head(self) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk" if self.is_chat else "text_completion"}

    def _chunk(self, delta: dict[str, Any], chances: Any, reason: str | None = None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "logprobs": chances, "finish_reason": reason}
        if self.is_chat:
            choice["delta"] = delta
        else:
            choice["text"] = delta.get("content", "")
        more = {"usage": None} if self.tells_usage else {}
        return event({**self._chunk_head, "choices": [choice], **more})

    def _logprobs(self, chances: Sequence[Chance]) -> dict[str, Any]:
        if self.is_chat:
            return {"content": [_token(chance) for chance in chances], "refusal": None}
        offsets = [*itertools.accumulate((len(chance.text) for chance in chances), initial=self._offset)]
        self._offset = offsets.pop()
        return {
            "tokens": [chance.text for chance in chances],
            "token_logprobs": [chance.logprob for chance in chances],
            "top_logprobs": [{one.text: one.logprob for one in chance.top} for chance in chances],
            "text_offset": offsets,
        }


def routes(daemon: AskedDaemon) -> list[Route]:
    """Of this interface."""

    async def models(request: Request) -> Response:
        return await guarded(request, lambda: _models(daemon))

    async def model(request: Request) -> Response:
        return await guarded(request, lambda: _model(daemon, request.path_params["id"]))

    async def chat(request: Request) -> Response:
        return await guarded(request, lambda: _chat(daemon, request))

    async def completion(request: Request) -> Response:
        return await guarded(request, lambda: _completion(daemon, request))

    return [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{id:path}", model, methods=["GET"]),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/completions", completion, methods=["POST"]),
    ]


async def guarded(request: Request, answer: Callable[[], Awaitable[Response]]) -> Response:
    """The answer, or what went wrong as this interface says it."""
    path = request.scope["path"]
    try:
        return await answer()
    except Wrong as error:
        return failed(path, 400, str(error), param=error.param)
    except UnknownModel as error:
        return failed(path, 404, str(error), code="model_not_found", param="model")
    except PeerdError as error:
        return refused(path, error)
    except ClientGone:
        return Nobody()


async def body_of(request: Request) -> bytes:
    """Raises Wrong."""
    body = await bounded_body(request, MAX_BODY)
    if body is None:
        raise Wrong(f"a request has at most {MAX_BODY} bytes")
    return body


async def _models(daemon: AskedDaemon) -> Response:
    now = await daemon.status()
    return _json({"object": "list", "data": [_listed(one) for one in offered(now)]})


async def _model(daemon: AskedDaemon, name: str) -> Response:
    wanted, now = model_of(name), await daemon.status()
    found = next((one for one in offered(now) if one.name == wanted), None)
    if found is None and wanted != "served":
        raise UnknownModel("no twin trains here, so there is no model of that name")
    return _json(_listed(found or offered(now)[0]))


def _listed(one: Offered) -> dict[str, Any]:
    return {"id": one.name, "object": "model", "created": int(one.since), "owned_by": OWNER, "description": one.says}


async def _chat(daemon: AskedDaemon, request: Request) -> Response:
    asked = await _decoded(request, ChatRequest)
    fields = {
        "chat": [{"role": _role(one.role), "content": _text(one)} for one in asked.messages],
        "max_tokens": asked.max_completion_tokens or asked.max_tokens or MAX_NEW_TOKENS,
        "choices": (asked.top_logprobs or 0) if asked.logprobs else None,
    }
    if not asked.messages:
        raise Wrong("messages: there is none", "messages")
    return await _answered(daemon, request, asked, fields, is_chat=True)


async def _completion(daemon: AskedDaemon, request: Request) -> Response:
    asked = await _decoded(request, CompletionRequest)
    prompt = asked.prompt
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise Wrong("prompt: one text is gone on with, no list of them and no tokens", "prompt")
        prompt = prompt[0]
    fields = {
        "prompt": prompt,
        "max_tokens": USUAL_TOKENS if asked.max_tokens is None else asked.max_tokens,
        "choices": asked.logprobs,
    }
    return await _answered(daemon, request, asked, fields, is_chat=False)


async def _answered(
    daemon: AskedDaemon, request: Request, asked: OpenAIRequest, fields: dict[str, Any], *, is_chat: bool
) -> Response:
    for name, would_differ in _REFUSED.items():
        if (given := getattr(asked, name, None)) is not None and would_differ(given):
            raise Wrong(f"{name}: this does not exist here; leave it out", name)
    question = _question(asked, fields)
    answer = await answering(request, daemon, question)
    frame = Frame(asked, is_chat=is_chat)
    if asked.stream:
        return Streamed(_streamed(answer, frame), "text/event-stream")
    found = await whole(request, answer)
    return Response(frame.whole(found, question.choices is not None), media_type="application/json")


def _question(asked: OpenAIRequest, fields: dict[str, Any]) -> RespondQuestion:
    """Raises Wrong and UnknownModel."""
    fields |= {
        "model": model_of(asked.model),
        "max_tokens": min(fields["max_tokens"], MAX_NEW_TOKENS),
        "temperature": 1.0 if asked.temperature is None else asked.temperature,
        "top_p": 1.0 if asked.top_p is None else asked.top_p,
        "seed": secrets.randbits(62) if asked.seed is None else asked.seed,
        "stop": [asked.stop] if isinstance(asked.stop, str) else asked.stop or [],
        "cuts": False,
    }
    try:
        return checked(RespondQuestion, fields)
    except UsageError as error:
        raise Wrong(str(error), str(error).partition(":")[0][:40]) from error


async def _streamed(answer: BegunAnswer, frame: Frame) -> AsyncGenerator[bytes, None]:
    """An error on the way is the last event, as OpenAI's clients expect it."""
    if first := frame.first():
        yield first
    async with aclosing(answer.rest) as rest:
        try:
            async for said in rest:
                yield frame.last(said) if isinstance(said, Ended) else _piece(frame, said)
        except PeerdError as error:
            words, status, code = told(error)
            yield event(problem(status, words, code=code))


def _piece(frame: Frame, said: Said) -> bytes:
    return frame.piece(said) if isinstance(said, Piece) else b""


async def _decoded(request: Request, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(await body_of(request), type=kind)
    except UNREADABLE as error:
        raise Wrong(f"the request is not understood: {error}") from error


def _role(name: str) -> str:
    """OpenAI's newer models call the system the developer."""
    return "system" if name == "developer" else name


def _text(message: ChatMessage) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    if other := next((part.type for part in message.content if part.type != "text"), ""):
        raise Wrong(f"messages: a part of type {other[:40]!r} cannot be read here, only text", "messages")
    return "".join(part.text for part in message.content)


def _token(chance: Chance) -> dict[str, Any]:
    top = [{"token": one.text, "logprob": one.logprob, "bytes": [*one.text.encode()]} for one in chance.top]
    spelt = [*chance.text.encode()]
    return {"token": chance.text, "logprob": chance.logprob, "bytes": spelt, "top_logprobs": top}


def usage(ended: Ended) -> dict[str, int]:
    """In tokens."""
    both = ended.prompt_tokens + ended.completion_tokens
    return {
        "prompt_tokens": ended.prompt_tokens,
        "completion_tokens": ended.completion_tokens,
        "total_tokens": both,
    }


def event(document: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


def _json(document: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")
