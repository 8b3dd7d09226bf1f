"""`peerd data`: what becomes of the data, file by file, and what the model would see. Nothing is changed by it."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import msgspec
import typer

from peerd import config_file
from peerd.cli import options
from peerd.cli.common_options import AsJson, Home
from peerd.cli.output import finish, say, say_bold, say_text
from peerd.control import words
from peerd.control.answers import DataLooked, ExampleShown
from peerd.errors import UsageError
from peerd.machine.paths import Paths, absolute

OF_TEXT = ("data", "encoding", "model", "me", "loss", "keep_secrets")
"""Options of `peerd start` that say what is read, and how."""
MOST_SHOWN = 1000
Show = Annotated[
    int,
    typer.Option(
        "--show",
        metavar="N",
        min=0,
        max=MOST_SHOWN,
        help="Print so many documents exactly as the model sees them in training.",
        show_default=False,
    ),
]


def data(*, show: Show = 0, home: Home = None, as_json: AsJson = False, **typed: Any) -> None:
    """Show what becomes of every file of the data: documents, tokens, splits, copies, or why it is left out.

    Needs no daemon, loads no weights and writes nothing. What is not typed is what `peerd start` was given.
    """
    from peerd.cli import findings
    from peerd.cli.check import encodings_checked
    from peerd.cli.waiting import shown_progress

    paths = Paths.of(home)
    config = config_file.merged(config_file.read(paths.config), options.given(typed), paths.config)
    if not config.data:
        raise UsageError("there is nothing to read: name a file or folder", "for example: peerd data --data ~/notes")
    config = msgspec.structs.replace(
        config,
        data=tuple(str(absolute(text)) for text in config.data),
        encoding=encodings_checked(config.encoding),
    )
    with shown_progress() as tell:
        found = findings.look(config, paths, show, tell)
    finish("data", found, as_json, lambda: tell_people(found))


data.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # Typer reads it
    [
        *(p for p in options.parameters() if p.name in OF_TEXT),
        *(p for p in inspect.signature(data, eval_str=True).parameters.values() if p.kind is p.KEYWORD_ONLY),
    ]
)
data.__annotations__ = {p.name: p.annotation for p in inspect.signature(data).parameters.values()}


def tell_people(found: DataLooked) -> None:
    """The examples, a line a file, then the sum."""
    if any(not part.is_learnt for example in found.examples for part in example.parts):
        say(words.HOW_MARKED)
        say()
    for example in found.examples:
        show_example(example)
    for file in found.files:
        say(words.fate(file))
    say()
    say_bold(words.text_used(found.text))
    for sentence in [*words.text_not_used(found.text), *words.dealing(found)]:
        say(sentence)


def show_example(example: ExampleShown) -> None:
    """One document, control tokens as they are spelled."""
    say_bold(words.heading(example))
    say_text([(part.text, part.is_learnt) for part in example.parts])
    say()
