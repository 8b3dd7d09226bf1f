"""`peerd read`: what a reading of the data finds, file by file. Needs no daemon and changes nothing."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated

import typer

from peerd import config_file
from peerd.cli.common_options import AsJson, Home
from peerd.cli.output import finish, say, say_bold
from peerd.control.answers import TextRead
from peerd.control.words import fate, text_not_used, text_used
from peerd.errors import UsageError
from peerd.machine.paths import Paths, absolute

Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="A file or folder to read; what `peerd start` was given, if absent.",
        show_default=False,
    ),
]


Encoding = Annotated[
    list[str] | None,
    typer.Option(
        "--encoding",
        metavar="[PATH=]NAME",
        help="What text of old files is in that is not Unicode; what `peerd start` was given, if absent.",
        show_default=False,
    ),
]


def read(data: Data = None, encoding: Encoding = None, home: Home = None, as_json: AsJson = False) -> None:
    """Show what becomes of every file of the data: used and how, or left out and why. Needs no daemon."""
    from peerd.cli import findings, options
    from peerd.cli.check import encodings_checked

    paths = Paths.of(home)
    remembered = config_file.read(paths.config)
    given = [text for text in data or [] if text] or list(remembered.get("data", []))
    if not given:
        raise UsageError("there is nothing to read: name a file or folder", "for example: peerd read --data ~/notes")
    said = options.given({"encoding": encoding}).get("encoding", remembered.get("encoding", {}))
    encodings = {PurePath(path): name for path, name in encodings_checked(said).items()}
    found = findings.read([absolute(text) for text in given], paths, encodings)
    finish("read", found, as_json, lambda: show(found))


def show(found: TextRead) -> None:
    """A line a file, then the sum."""
    for file in found.files:
        say(fate(file))
    say()
    say_bold(text_used(found.text))
    for sentence in text_not_used(found.text):
        say(sentence)
