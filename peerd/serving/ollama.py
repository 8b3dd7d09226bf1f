"""Ollama's interface, as far as common clients use it: /api/generate, /api/chat, /api/tags, /api/show, /api/ps.

https://github.com/ollama/ollama/blob/main/docs/api.md. Answers are lines of JSON unless `stream` is false. Of the
options `num_predict`, `temperature`, `top_p`, `seed` and `stop` are heard; others only tune, and are passed over as
Ollama passes over what it does not know. A prompt is answered as a chat of one line, by the base's template; `raw` goes
on with it as it stands.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from p2pfinetune.errors import UNREADABLE
from p2pfinetune.speech import Chance, Ended, Piece
from peerd import __version__
from peerd.control.questions import MAX_NEW_TOKENS, RespondQuestion, checked
from peerd.errors import PeerdError, UsageError
from peerd.serving.failures import in_words, told
from peerd.serving.models import LATEST, Offered, model_of, offered
from peerd.serving.openai import Wrong, body_of, guarded
from peerd.serving.upstream import AskedDaemon, BegunAnswer, Streamed, Whole, answering, whole
from peerd.status import Status

USUAL_TEMPERATURE, USUAL_TOP_P = 0.8, 0.9  # Ollama's own
NANOSECONDS = 1_000_000_000
LINES = "application/x-ndjson"
KEPT_SECONDS = 3600 * 24 * 365  # the model stays as long as the daemon does


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Those that are heard."""

    num_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None


class OllamaMessage(msgspec.Struct, frozen=True, kw_only=True):
    role: str
    content: str | None = None
    images: list[Any] | None = None


class OllamaRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /api/generate and /api/chat."""

    model: str = ""
    name: str = ""
    prompt: str | None = None
    system: str | None = None
    messages: list[OllamaMessage] | None = None
    stream: bool | None = None
    raw: bool | None = None
    options: Options | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    suffix: str | None = None
    template: str | None = None
    images: list[Any] | None = None
    format: Any = None
    tools: list[Any] | None = None
    think: Any = None

    @property
    def called(self) -> str:
        """Older clients say `name`."""
        return self.model or self.name


_REFUSED = ("suffix", "template", "images", "format", "tools", "think")


class Page:
    """How the lines of one answer are written."""

    def __init__(self, asked: OllamaRequest, *, is_chat: bool) -> None:
        self._model, self._is_chat = asked.called, is_chat
        self._begun = time.monotonic()
        self._first = 0.0  # when the worker had read the prompt

    def reads(self) -> None:
        """The worker has begun."""
        self._first = time.monotonic()

    def line(self, text: str, chances: tuple[Chance, ...] = (), ended: Ended | None = None) -> dict[str, Any]:
        """A piece, or the end with what it took, in nanoseconds."""
        said: dict[str, Any] = (
            {"message": {"role": "assistant", "content": text}} if self._is_chat else {"response": text}
        )
        head = {"model": self._model, "created_at": stamp(time.time()), **said, "done": ended is not None}
        if chances:
            head["logprobs"] = [_token(chance) for chance in chances]
        return head if ended is None else {**head, **self._end(ended)}

    def loaded(self) -> dict[str, Any]:
        """Nothing was asked but that the model be there, which it is."""
        return {**self.line(""), "done": True, "done_reason": "load"}

    def _end(self, ended: Ended) -> dict[str, Any]:
        now = time.monotonic()
        waited, took = self._first - self._begun, now - self._first
        return {
            "done_reason": ended.reason,
            "total_duration": int((now - self._begun) * NANOSECONDS),
            "load_duration": 0,
            "prompt_eval_count": ended.prompt_tokens,
            "prompt_eval_duration": int(waited * NANOSECONDS),
            "eval_count": ended.completion_tokens,
            "eval_duration": int(took * NANOSECONDS),
        }


def routes(daemon: AskedDaemon) -> list[Route]:
    """Of this interface."""

    async def generate(request: Request) -> Response:
        return await guarded(request, lambda: _answered(daemon, request, is_chat=False))

    async def chat(request: Request) -> Response:
        return await guarded(request, lambda: _answered(daemon, request, is_chat=True))

    async def tags(request: Request) -> Response:
        return await guarded(request, lambda: _listed(daemon, _tag))

    async def running(request: Request) -> Response:
        return await guarded(request, lambda: _listed(daemon, _running))

    async def show(request: Request) -> Response:
        return await guarded(request, lambda: _shown(daemon, request))

    async def version(_: Request) -> Response:
        return _json({"version": __version__})

    return [
        Route("/api/generate", generate, methods=["POST"]),
        Route("/api/chat", chat, methods=["POST"]),
        Route("/api/tags", tags, methods=["GET"]),
        Route("/api/ps", running, methods=["GET"]),
        Route("/api/show", show, methods=["POST"]),
        Route("/api/version", version, methods=["GET"]),
    ]


async def _answered(daemon: AskedDaemon, request: Request, *, is_chat: bool) -> Response:
    asked = await _decoded(request)
    model_of(asked.called)
    for name in _REFUSED:
        if getattr(asked, name):
            raise Wrong(f"{asked.called[:60]} does not support {name}")
    page = Page(asked, is_chat=is_chat)
    if not (asked.messages if is_chat else asked.prompt):
        return _json(page.loaded())
    answer = await answering(request, daemon, _question(asked, is_chat=is_chat))
    page.reads()
    if asked.stream is not False:
        return Streamed(_streamed(answer, page), LINES)
    found: Whole = await whole(request, answer)
    return _json(page.line(found.text, found.chances, found.ended))


def _question(asked: OllamaRequest, *, is_chat: bool) -> RespondQuestion:
    """Raises Wrong."""
    options = asked.options or Options()
    wanted = options.num_predict
    fields: dict[str, Any] = {
        "model": model_of(asked.called),
        "max_tokens": MAX_NEW_TOKENS if wanted is None or wanted < 0 else min(wanted, MAX_NEW_TOKENS),
        "temperature": USUAL_TEMPERATURE if options.temperature is None else options.temperature,
        "top_p": USUAL_TOP_P if options.top_p is None else options.top_p,
        "seed": secrets.randbits(62) if options.seed is None else options.seed,
        "stop": [options.stop] if isinstance(options.stop, str) else options.stop or [],
        "choices": (asked.top_logprobs or 0) if asked.logprobs else None,
    }
    if asked.raw and not is_chat:
        fields["prompt"] = asked.prompt
    else:
        fields["chat"] = _chat(asked, is_chat=is_chat)
    try:
        return checked(RespondQuestion, fields)
    except UsageError as error:
        raise Wrong(str(error)) from error


def _chat(asked: OllamaRequest, *, is_chat: bool) -> list[dict[str, str]]:
    if is_chat:
        if any(message.images for message in asked.messages or []):
            raise Wrong(f"{asked.called[:60]} does not support images")
        return [{"role": message.role, "content": message.content or ""} for message in asked.messages or []]
    system = [{"role": "system", "content": asked.system}] if asked.system else []
    return [*system, {"role": "user", "content": asked.prompt or ""}]


async def _streamed(answer: BegunAnswer, page: Page) -> AsyncGenerator[bytes, None]:
    """An error on the way is the last line."""
    async with aclosing(answer.rest) as rest:
        try:
            async for said in rest:
                if isinstance(said, Piece):
                    yield _line(page.line(said.text, said.chances))
                elif isinstance(said, Ended):
                    yield _line(page.line("", (), said))
        except PeerdError as error:
            yield _line(in_words(told(error)[0]))


async def _decoded(request: Request) -> OllamaRequest:
    try:
        return msgspec.json.decode(await body_of(request), type=OllamaRequest)
    except UNREADABLE as error:
        raise Wrong(f"the request is not understood: {error}") from error


async def _listed(daemon: AskedDaemon, write: Callable[[Offered, Status], dict[str, Any]]) -> Response:
    now = await daemon.status()
    return _json({"models": [write(one, now) for one in offered(now)]})


def _tag(one: Offered, now: Status) -> dict[str, Any]:
    name = f"{one.name}{LATEST}"
    return {
        "name": name,
        "model": name,
        "modified_at": stamp(one.since),
        "size": 0,
        "digest": one.digest,
        "details": _details(now),
    }


def _running(one: Offered, now: Status) -> dict[str, Any]:
    kept = {"expires_at": stamp(time.time() + KEPT_SECONDS), "size_vram": 0}
    return {**{name: value for name, value in _tag(one, now).items() if name != "modified_at"}, **kept}


async def _shown(daemon: AskedDaemon, request: Request) -> Response:
    wanted, now = model_of((await _decoded(request)).called), await daemon.status()
    one = next((one for one in offered(now) if one.name == wanted), offered(now)[0])
    shown = {
        "modelfile": f"# {one.says}\n",
        "parameters": "",
        "template": "{{ .Prompt }}",
        "details": _details(now),
        "model_info": {"general.architecture": "peerd", "general.basename": now.model, "general.description": one.says},
        "capabilities": ["completion"],
        "modified_at": stamp(one.since),
    }
    return _json(shown)


def _details(now: Status) -> dict[str, Any]:
    return {
        "parent_model": now.model,
        "format": "safetensors",
        "family": "peerd",
        "families": ["peerd"],
        "parameter_size": "",
        "quantization_level": now.worker.precision,
    }


def _token(chance: Chance) -> dict[str, Any]:
    top = [{"token": one.text, "logprob": one.logprob} for one in chance.top]
    return {"token": chance.text, "logprob": chance.logprob, "top_logprobs": top}


def stamp(unix: float) -> str:
    """As Ollama's clients read a time: RFC 3339."""
    return datetime.fromtimestamp(unix, UTC).isoformat().replace("+00:00", "Z")


def _line(document: dict[str, Any]) -> bytes:
    return msgspec.json.encode(document) + b"\n"


def _json(document: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")
