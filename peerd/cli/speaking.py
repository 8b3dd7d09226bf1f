"""What models say, on a terminal: word by word, and of two models in two columns.

A model may say anything, also what moves a cursor or turns text around; such characters are spelled out.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from p2pfinetune.speech import Begun, ChatLine, Ended, Piece
from peerd.cli.output import complain, say, say_bold
from peerd.control.client import Client
from peerd.control.questions import Model
from peerd.control.render import printable
from peerd.errors import PeerdError

if TYPE_CHECKING:
    from rich.table import Table

LOOK_SECONDS = 0.1  # between two drawings


class Asked(NamedTuple):
    """Of whom, how much, and how."""

    model: Model
    max_tokens: int
    temperature: float
    seed: int


def pieces(
    client: Client, asked: Asked, prompt: str | None, chat: Sequence[ChatLine] = ()
) -> Iterator[Begun | Piece | Ended]:
    """As they are said; leaving the loop ends the answer."""
    how = {"max_tokens": asked.max_tokens, "temperature": asked.temperature, "seed": asked.seed}
    with closing(client.respond(prompt, chat=chat, model=asked.model, **how)) as answer:
        yield from answer


def spoken(client: Client, asked: Asked, prompt: str | None, chat: Sequence[ChatLine] = ()) -> str:
    """Written as it comes, with a line's end behind it; what was said."""
    found = ""
    try:
        for said in pieces(client, asked, prompt, chat):
            if isinstance(said, Piece):
                found += said.text
                sys.stdout.write(clean(said.text))
                sys.stdout.flush()
            elif isinstance(said, Begun) and said.left_out:
                complain(f"too long for the model: {said.left_out} {'lines' if chat else 'tokens'} left out at first")
    except KeyboardInterrupt as stopped:
        raise Interrupted(found) from stopped
    finally:
        say()
    return found


class Interrupted(KeyboardInterrupt):
    """By the person, in the middle of an answer."""

    def __init__(self, said: str) -> None:
        super().__init__()
        self.said = said


def one_after_the_other(client: Client, asked: Asked, models: Sequence[Model], prompt: str) -> None:
    """A heading and a text for each."""
    for model in models:
        say_bold(model)
        spoken(client, asked._replace(model=model), prompt)
        say()


def side_by_side(home: Path | None, asked: Asked, models: Sequence[Model], prompt: str) -> None:
    """In columns that grow together; each is asked over a connection of its own. Raises the first error of one."""
    from rich.console import Console
    from rich.live import Live

    heard: queue.Queue[tuple[Model, str | PeerdError | None]] = queue.Queue()
    for model in models:
        arguments = (home, asked._replace(model=model), prompt, heard)
        threading.Thread(target=_listen, args=arguments, name=f"hears {model}", daemon=True).start()
    texts, open_ones = dict.fromkeys(models, ""), set(models)
    with Live(_columns(texts), console=Console(highlight=False), refresh_per_second=1 / LOOK_SECONDS) as live:
        while open_ones:
            model, told = heard.get()
            if isinstance(told, PeerdError):
                raise told
            if told is None:
                open_ones.discard(model)
            else:
                texts[model] += told
                live.update(_columns(texts))


def _listen(
    home: Path | None, asked: Asked, prompt: str, heard: queue.Queue[tuple[Model, str | PeerdError | None]]
) -> None:
    try:
        with Client(home) as client:
            for said in pieces(client, asked, prompt):
                if isinstance(said, Piece):
                    heard.put((asked.model, clean(said.text)))
    except PeerdError as error:
        heard.put((asked.model, error))
    else:
        heard.put((asked.model, None))


def _columns(texts: dict[Model, str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(expand=True)
    for model in texts:
        table.add_column(model, ratio=1, overflow="fold")
    table.add_row(*(Text(text) for text in texts.values()))
    return table


def clean(text: str) -> str:
    """Lines and tabs stay; what could move a cursor or hide is spelled out."""
    return "".join(c if c in "\n\t" or printable(c) else ascii(c)[1:-1] for c in text)
