"""`peerd generate`: what a model says, as it says it; two models side by side; or a chat."""

from __future__ import annotations

import shutil
import sys
from typing import Annotated

import typer

from p2pfinetune.options.sections import typed
from peerd.cli.chat import chat as talk
from peerd.cli.common_options import AsJson, Home
from peerd.cli.output import complain, finish, is_rich
from peerd.cli.speaking import Wish, one_after_the_other, side_by_side, spoken
from peerd.control import words
from peerd.control.client import Client
from peerd.control.questions import (
    MAX_PROMPT,
    USUAL,
    USUAL_RESPONSE,
    GenerateQuestion,
    Model,
    RespondQuestion,
    checked,
)
from peerd.errors import UsageError

COMPARED: tuple[Model, ...] = ("base", "personal")
WIDE = 100  # columns of a terminal in which two texts have room beside one another
STDIN = "-"


def generate(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="[TEXT]", help="What to continue, or to begin a chat with; - reads it.", show_default=False
        ),
    ] = None,
    *,
    is_chat: Annotated[
        bool,
        typer.Option("--chat", help="Talk with the model; at a terminal /reset and /quit, elsewhere line by line."),
    ] = False,
    which: Annotated[
        str, typer.Option("--which", metavar="served|personal|own|base|twin", help="Which model speaks.")
    ] = "served",
    compare: Annotated[bool, typer.Option("--compare", help="Base and personal model, side by side.")] = False,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens", min=1, max=4096, help="At most, of each text: 64, in a chat 256.", show_default=False
        ),
    ] = None,
    temperature: Annotated[float, typer.Option(**typed(GenerateQuestion, "temperature"))] = USUAL.temperature,
    seed: Annotated[int, typer.Option(**typed(GenerateQuestion, "seed"))] = USUAL.seed,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Continue a text, as it is said, or chat; by what is served, the personal model unless a twin is ahead."""
    _must_fit_together(text, is_chat, compare, as_json)
    most = max_tokens or (USUAL_RESPONSE if is_chat else USUAL).max_tokens
    chosen = checked(RespondQuestion, {"model": which, "prompt": "", "max_tokens": most, "seed": seed})
    asked = Wish(chosen.model, most, temperature, seed)
    with Client(home) as client:
        prompt = _text(text) if text is not None else None
        if as_json:
            found = client.generate(prompt or "", max_tokens=asked.max_tokens, temperature=temperature, seed=seed)
            finish("generate", found, as_json, lambda: None)
            return
        status = client.status()
        if which == "served" and not compare and (told := words.served(status)):
            complain(told)
        if is_chat:
            talk(client, asked, prompt)
        elif not compare:
            spoken(client, asked, prompt or "")
        elif is_rich() and shutil.get_terminal_size().columns >= WIDE:
            side_by_side(home, asked, COMPARED, prompt or "")
        else:
            one_after_the_other(client, asked, COMPARED, prompt or "")


def _must_fit_together(text: str | None, is_chat: bool, compare: bool, as_json: bool) -> None:
    if is_chat and as_json:
        raise UsageError("--chat is for people, and --json for programs", "let programs ask: peerd serve")
    if is_chat and compare:
        raise UsageError(
            "--chat and --compare do not go together", "compare on one text: peerd generate TEXT --compare"
        )
    if is_chat and text == STDIN:
        raise UsageError("a chat reads its lines itself", "leave the - out")
    if text is None and not is_chat:
        raise UsageError("there is nothing to continue", "give a TEXT, or --chat; see: peerd generate --help")


def _text(text: str) -> str:
    """What was typed, or standard input. UsageError for what is no text, or too long."""
    found = sys.stdin.read(MAX_PROMPT + 1) if text == STDIN else text
    checked(GenerateQuestion, {"prompt": found})
    return found
