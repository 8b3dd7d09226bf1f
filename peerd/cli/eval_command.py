"""`peerd eval`: how good each of my models is on a text, with intervals, or on the test split, which is asked once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import typer

from p2pfinetune.options.sections import typed
from p2pfinetune.round.figures import ModelFigures
from p2pfinetune.scoring.perplexity import perplexity, written
from peerd.cli.common_options import AsJson, Home
from peerd.cli.output import complain, finish, say, say_bold, table
from peerd.control import answers, figures
from peerd.control.client import Client
from peerd.control.questions import EvalQuestion
from peerd.control.render import some, when
from peerd.control.words import text_not_used, text_used
from peerd.errors import UsageError
from peerd.machine.paths import absolute

HELDOUT = "heldout"
SERVED = {
    "personal": "the personal model", "best": "the personal model at its best", "local": "the twin at its best",
    "mixture": "a mixture of the predictions of the personal model and those it trusts",
}  # fmt: skip
USUAL = EvalQuestion()


def evaluate(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="Files and folders to measure on.", show_default=False),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="heldout", help="Measure on your own test split, which nothing else looks at."),
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", **typed(EvalQuestion, "max_tokens"))] = USUAL.max_tokens,
    again: Annotated[bool, typer.Option("--again", **typed(EvalQuestion, "again"))] = USUAL.again,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Say how well base, own and personal model, and the twin, predict a text: perplexity, with 95 % intervals."""
    chosen = _chosen(files or [], on)
    with Client(home) as client:
        client.status()  # where no daemon runs, that is the thing to say first
        if not as_json:
            complain("measuring; the worker finishes the step that it is in first")
        found = client.evaluate(*chosen, max_tokens=max_tokens, again=again)
    finish("eval", found, as_json, lambda: show(found))


def _chosen(files: list[str], on: str | None) -> list[str]:
    """The files; none for the test split. UsageError if it is not clear which."""
    if on not in (None, HELDOUT):
        raise UsageError(f"--on {on}: there is only --on {HELDOUT}", "for a file: peerd eval FILE")
    if on and files:
        raise UsageError(f"files and --on {HELDOUT} are two questions", "ask one after the other")
    if not on and not files:
        raise UsageError("there is nothing to measure on", f"peerd eval FILE, or: peerd eval --on {HELDOUT}")
    for file in files:
        if not absolute(file).exists():
            raise UsageError(f"there is no file or folder {file}", "look at the spelling")
    return [str(absolute(file)) for file in files]


def show(found: answers.Evaluated) -> None:
    """A table of models, what it rests on, and what to make of it."""
    part = "" if found.tokens == found.of_tokens or found.tokens > found.of_tokens * 0.95 else ", evenly drawn"
    say_bold(f"{some(found.tokens, 'token')} of {some(found.documents, 'document')}{part}")
    columns = [("model", "text"), ("perplexity", "text"), ("95 % interval", "text"), ("beside base", "text")]
    columns += [("beside the twin", "text")] if "twin" in found.models else []
    table(columns, [_row(name, one, has_twin="twin" in found.models) for name, one in found.models.items()])
    for sentence in sentences(found):
        say(sentence)


def _row(name: str, one: ModelFigures, *, has_twin: bool) -> tuple[str, ...]:
    row = (name, written(perplexity(one.loss)), _interval(one), figures.briefly(one.against_base))
    return (*row, figures.briefly(one.against_twin)) if has_twin else row


def _interval(one: ModelFigures) -> str:
    if one.within is None:
        return "one document tells none"
    low, high = (perplexity(one.loss + side) for side in (-one.within, one.within))
    return f"{written(low)} to {written(high)}"


def sentences(found: answers.Evaluated) -> Iterator[str]:
    """What the figures say, what they rest on, and what takes from their worth."""
    served = found.models["served"]
    others: tuple[tuple[Literal["against_base", "against_twin"], str], ...] = (
        ("against_base", "the base model's"),
        ("against_twin", "that of the twin that trains alone"),
    )
    told = [figures.compared(margin, other) for name, other in others if (margin := getattr(served, name)) is not None]
    if told:
        yield f"What is served, {SERVED[found.served_by]}: perplexity {'; '.join(told)}."
    if found.text is not None:
        yield f"Read: {text_used(found.text)}."
        yield from text_not_used(found.text)
    if trained := found.known.get("train", 0):
        of = some(found.of_documents, "document")
        yield f"{trained} of {of} are in your training text, word for word: these figures flatter."
    if found.on == "heldout":
        yield _looked(found)


def _looked(found: answers.Evaluated) -> str:
    first = found.looks[0] if found.looks else None
    if first is None:
        return "Nobody has looked at this split before."
    if found.is_kept:
        return (
            f"Nothing was measured: these are the figures of the first look, in round {first.round} "
            f"({when(first.unix)}). To measure anew: peerd eval --on heldout --again. Who looks, changes an option and "
            "looks again chooses by this split, and then its figures flatter."
        )
    if len(found.looks) > 1:
        return (
            f"This split has been looked at {len(found.looks)} times: the more was chosen by it, the more it flatters."
        )
    return "Your test split has now been looked at. Whatever you choose by these figures, it flatters from then on."
