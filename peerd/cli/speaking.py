"""What models say, on a terminal: word by word, and of two models in two columns.

A model may say anything, also what moves a cursor or turns text around; such characters are spelled out.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from p2pfinetune.speech import Begun, ChatLine, Piece, Said
from peerd.cli.output import complain, say, say_bold
from peerd.control.client import Client
from peerd.control.questions import Model
from peerd.control.render import printable
from peerd.errors import PeerdError

if TYPE_CHECKING:
    from rich.table import Table

LOOK_SECONDS = 0.1  # between two drawings
END_SECONDS = 1.0  # for a piece that comes after the end


class Wish(NamedTuple):
    """Of whom, how much, and how."""

    model: Model
    max_tokens: int
    temperature: float
    seed: int


def pieces(
    client: Client, asked: Wish, prompt: str | None, chat: Sequence[ChatLine] = ()
) -> Generator[Said, None, None]:
    """As they are said; leaving the loop ends the answer."""
    answer = client.respond(
        prompt,
        chat=chat,
        model=asked.model,
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        seed=asked.seed,
    )
    with closing(answer):
        yield from answer


def spoken(client: Client, asked: Wish, prompt: str | None, chat: Sequence[ChatLine] = ()) -> str:
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


def one_after_the_other(client: Client, asked: Wish, models: Sequence[Model], prompt: str) -> None:
    """A heading and a text for each."""
    for model in models:
        say_bold(model)
        spoken(client, asked._replace(model=model), prompt)
        say()


def side_by_side(home: Path | None, asked: Wish, models: Sequence[Model], prompt: str) -> None:
    """In columns that grow together; each is asked over a connection of its own. Raises the first error of one."""
    from rich.console import Console
    from rich.live import Live

    listening = Listening(home, prompt)
    try:
        for model in models:
            listening.to(asked._replace(model=model))
        texts, open_ones = dict.fromkeys(models, ""), set(models)
        with Live(_columns(texts), console=Console(highlight=False), refresh_per_second=1 / LOOK_SECONDS) as live:
            while open_ones:
                model, told = listening.heard.get()
                if isinstance(told, PeerdError):
                    raise told
                if told is None:
                    open_ones.discard(model)
                else:
                    texts[model] += told
                    live.update(_columns(texts))
    finally:
        listening.end()


class Listening:
    """To several models at once, each in a thread of its own; what is heard lies in one queue."""

    def __init__(self, home: Path | None, prompt: str) -> None:
        self._home, self._prompt = home, prompt
        self.heard: queue.Queue[tuple[Model, str | PeerdError | None]] = queue.Queue()
        """A piece, an error, or None at the end."""
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def to(self, asked: Wish) -> None:
        """Begin with one."""
        thread = threading.Thread(target=self._listen, args=(asked,), name=f"hears {asked.model}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def end(self) -> None:
        """Leave those that still speak, which ends their answers."""
        self._ended.set()
        for thread in self._threads:
            thread.join(END_SECONDS)

    def _listen(self, asked: Wish) -> None:
        told: PeerdError | None = None
        try:
            with Client(self._home) as client, closing(pieces(client, asked, self._prompt)) as answer:
                for said in answer:
                    if isinstance(said, Piece):
                        self.heard.put((asked.model, clean(said.text)))
                    if self._ended.is_set():
                        return
        except PeerdError as error:
            told = error
        self.heard.put((asked.model, told))


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
