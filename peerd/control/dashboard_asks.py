"""What the page may ask beside looking: a model to speak, and an export into a folder that is not of its choosing.

    POST /ask/respond   {model, text, is_chat}          ->  /v1/respond, its events as they come
    POST /ask/export    {format, modelfile}             ->  /v1/export into HOME/exports/WHICH-FORMAT-TIME

Nothing of the page's body goes on as it is: it is decoded strictly, and the daemon's question is made here. So no page
names a folder, and what a page cannot ask (to stop, to unban) it cannot ask in other words either.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from p2pfinetune.errors import UNREADABLE
from p2pfinetune.names import ExportFormat
from p2pfinetune.speech import ChatLine
from peerd.control.questions import MAX_PROMPT, ExportQuestion, Model, RespondQuestion
from peerd.control.responses import bounded_body, problem
from peerd.control.verbs import EXPORT, PATHS, RESPOND, SLOW_SECONDS, Verb

FOLDER = "exports"  # of a home
MAX_BODY = 8 * MAX_PROMPT  # bytes; JSON writes a character in twelve at most, but people do not
MAX_TOKENS = 200  # of an answer in a box of a page
CONNECT_SECONDS = 20.0


class PromptBox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model, one text."""

    model: Model
    text: Annotated[str, Meta(min_length=1, max_length=MAX_PROMPT)]
    is_chat: bool = False
    """Said to the model as the first line of a chat, by the base's template; else a text to go on with."""

    def question(self) -> RespondQuestion:
        """As the daemon is asked."""
        if self.is_chat:
            return RespondQuestion(model=self.model, chat=(ChatLine("user", self.text),), max_tokens=MAX_TOKENS)
        return RespondQuestion(model=self.model, prompt=self.text, max_tokens=MAX_TOKENS)

    async def sent(self, upstream: httpx.AsyncClient) -> httpx.Response:
        """The daemon's stream. Raises httpx.HTTPError."""
        return await _ask(upstream, RESPOND, self.question())


class ExportButton(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """In which form."""

    format: ExportFormat
    modelfile: bool = False

    def question(self, home: Path, now: float) -> ExportQuestion:
        """Of what is served, into a new folder of the home's own."""
        name = f"served-{self.format}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}"
        folder = home / FOLDER / name
        return ExportQuestion(folder=str(folder), format=self.format, modelfile=self.modelfile)

    async def sent(self, upstream: httpx.AsyncClient) -> httpx.Response:
        """The daemon's answer. Raises httpx.HTTPError."""
        paths = msgspec.json.decode((await upstream.get(f"/v1/{PATHS.name}")).content, type=dict[str, str])
        return await _ask(upstream, EXPORT, self.question(Path(paths["home"]), time.time()))


ASKED: Mapping[str, type[PromptBox | ExportButton]] = {"/ask/respond": PromptBox, "/ask/export": ExportButton}
"""By path."""


async def wanted(request: Request) -> PromptBox | ExportButton | Response:
    """What the page sent to one of those paths, or why it is refused."""
    body = await bounded_body(request, MAX_BODY)
    try:
        return msgspec.json.decode(body or b"", type=ASKED[request.url.path])
    except UNREADABLE as error:
        return problem("usage", f"this is no question of the page's: {error}"[:300], status=400)


async def _ask(upstream: httpx.AsyncClient, verb: Verb[Any, Any], question: msgspec.Struct) -> httpx.Response:
    """A worker that is busy is waited for: there is no answer before it has begun."""
    patience = httpx.Timeout(CONNECT_SECONDS, read=SLOW_SECONDS)
    headers = {"content-type": "application/json"}
    content = msgspec.json.encode(question)
    request = upstream.build_request("POST", f"/v1/{verb.name}", content=content, headers=headers, timeout=patience)
    return await upstream.send(request, stream=True)
