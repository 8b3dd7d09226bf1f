"""`peerd data`: what becomes of the data, file by file, and what the model would see. Nothing is changed by it."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated

import typer

from p2pfinetune.options import ModelOptions, StepOptions
from peerd import config_file
from peerd.cli.common_options import AsJson, Home
from peerd.cli.output import finish, say, say_bold, say_text
from peerd.control import words
from peerd.control.answers import DataLooked, ExampleShown
from peerd.errors import UsageError
from peerd.machine.paths import Paths, absolute

AS_STARTED = "what `peerd start` was given, if absent."
MOST_SHOWN = 1000

Data = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="PATH", help=f"A file or folder to read; {AS_STARTED}", show_default=False),
]
Encoding = Annotated[
    list[str] | None,
    typer.Option(
        "--encoding",
        metavar="[PATH=]NAME",
        help=f"What text of old files is in that is not Unicode; {AS_STARTED}",
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|PATH",
        help=f"The base whose tokens are counted; {AS_STARTED} Its weights are not loaded.",
        show_default=False,
    ),
]
KeepSecrets = Annotated[
    bool | None,
    typer.Option(
        "--keep-secrets/--no-keep-secrets",
        help=f"Have lines that look like passwords, tokens or private keys; {AS_STARTED}",
        show_default=False,
    ),
]
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


def data(
    data: Data = None,
    show: Show = 0,
    model: Model = None,
    encoding: Encoding = None,
    keep_secrets: KeepSecrets = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show what becomes of every file of the data: documents, tokens, splits, copies, or why it is left out."""
    from peerd.cli import findings, options
    from peerd.cli.check import encodings_checked
    from peerd.cli.waiting import shown_progress

    paths = Paths.of(home)
    remembered = config_file.read(paths.config)
    given = [text for text in data or [] if text] or list(remembered.get("data", []))
    if not given:
        raise UsageError("there is nothing to read: name a file or folder", "for example: peerd data --data ~/notes")
    said = options.given({"encoding": encoding}).get("encoding", remembered.get("encoding", {}))
    asked = findings.Looking(
        data=[absolute(text) for text in given],
        encodings={PurePath(path): name for path, name in encodings_checked(said).items()},
        model=model or str(remembered.get("model", ModelOptions().model)),
        context=int(remembered.get("context", StepOptions().context)),
        examples=show,
        keep_secrets=bool(remembered.get("keep_secrets") if keep_secrets is None else keep_secrets),
    )
    with shown_progress() as tell:
        found = findings.look(asked, paths, tell)
    finish("data", found, as_json, lambda: tell_people(found))


def tell_people(found: DataLooked) -> None:
    """The examples, a line a file, then the sum."""
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
    say_text(example.text)
    say()
