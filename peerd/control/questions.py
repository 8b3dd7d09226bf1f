"""What is asked of a daemon, as types: the body of a POST, the query of a GET. Pure.

The functions beside them are how a person gives one from Python: they say when a number is out of bounds, and take a
folder as it is meant where it is typed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta

from p2pfinetune.names import EXPORT_FORMATS, ExportFormat, Which
from p2pfinetune.options import MAX_SPECIALISTS
from p2pfinetune.speech import MAX_CHOICES, ChatLine
from peerd.errors import UsageError
from peerd.machine.paths import absolute

Asked = TypeVar("Asked", bound=msgspec.Struct)

MAX_PROMPT = 32_768  # characters; far beyond the context of the models we adapt
MAX_NEW_TOKENS = 4096
MAX_TEMPERATURE = 10.0
MIN_SEED, MAX_SEED = -(2**63), 2**63 - 1  # what torch's generators and every format on the way hold
MAX_EVAL_TOKENS = 100_000_000
MAX_ROUNDS = 10_000  # rounds in one answer
USUAL_ROUNDS = 1000
MAX_PATH = 4096  # bytes on Linux, the final zero included


class Nothing(msgspec.Struct, frozen=True):
    """The question of a verb that needs none; what else came with the request is not read."""


class LastRounds(msgspec.Struct, frozen=True, kw_only=True):
    """Of how many rounds, the last ones."""

    last: Annotated[int, msgspec.Meta(ge=1, le=MAX_ROUNDS, title=f"a number from 1 to {MAX_ROUNDS}")] = USUAL_ROUNDS


class GenerateQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to continue."""

    prompt: Annotated[str, Meta(max_length=MAX_PROMPT)]
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_NEW_TOKENS, description="At most, of each continuation.")] = 64
    temperature: Annotated[float, Meta(ge=0, le=MAX_TEMPERATURE, description="0 takes the likeliest token always.")] = (
        0.8
    )
    seed: Annotated[int, Meta(ge=MIN_SEED, le=MAX_SEED, description="The same seed gives the same text.")] = 0


USUAL = GenerateQuestion(prompt="")

Model = Literal["base", "own", "personal", "served", "twin"]
MAX_LINES = 1024  # of a chat
MAX_STOPS = 16
MAX_STOP = 256  # characters


class RespondQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one model is to go on with: a prompt, or a chat."""

    model: Annotated[Model, Meta(description="A twin's is refused if none trains.")] = "served"
    prompt: Annotated[Annotated[str, Meta(max_length=MAX_PROMPT)] | None, Meta(description="Gone on with; or none")] = (
        None
    )
    chat: Annotated[
        tuple[ChatLine, ...],
        Meta(max_length=MAX_LINES, description="What was said so far, by the base's chat template, if no prompt."),
    ] = ()
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_NEW_TOKENS, description="At most; the context ends it too.")] = 256
    temperature: Annotated[float, Meta(ge=0, le=MAX_TEMPERATURE, description="0 takes the likeliest token always.")] = (
        0.8
    )
    top_p: Annotated[
        float, Meta(gt=0, le=1, description="Sample from the likeliest tokens with this much together.")
    ] = 1.0
    seed: Annotated[int, Meta(ge=MIN_SEED, le=MAX_SEED, description="The same seed gives the same text.")] = 0
    stop: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=MAX_STOP)], ...],
        Meta(max_length=MAX_STOPS, description="It ends before the first of these."),
    ] = ()
    choices: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_CHOICES)] | None,
        Meta(
            description="Tell of each token how likely it was, and so many others that were likeliest.",
        ),
    ] = None
    cuts: Annotated[
        bool,
        Meta(
            description="Leave out the beginning of a prompt, or the oldest lines of a chat, if it is too long; else "
            "it is refused."
        ),
    ] = True

    def __post_init__(self) -> None:
        """Raises ValueError, which a decoder tells as its own."""
        if (self.prompt is None) == (not self.chat):
            raise ValueError("either a prompt or a chat is needed")


USUAL_RESPONSE = RespondQuestion(prompt="")


class EvalQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """On which text the models are measured."""

    files: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=MAX_PATH)], ...],
        Meta(max_length=1000, description="Files and folders, absolute; none: the own test split."),
    ] = ()
    max_tokens: Annotated[
        int, Meta(ge=0, le=MAX_EVAL_TOKENS, description="Measured at most, evenly drawn; 0: the whole text.")
    ] = 20_000
    again: Annotated[bool, Meta(description="Measure the test split anew, though it has been looked at.")] = False


class ExportQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to, and which."""

    folder: Annotated[str, Meta(min_length=1, max_length=MAX_PATH, description="Absolute.")]
    which: Annotated[
        Which,
        Meta(
            title=f"one of {', '.join(get_args(Which))}",
            description="served: the better of personal, best and twin. A twin's (local) is refused if none trains.",
        ),
    ] = "served"
    format: Annotated[
        ExportFormat,
        Meta(
            title=f"one of {', '.join(EXPORT_FORMATS)}",
            description="peft: the adapter, for transformers. merged: a whole model, a Hugging Face folder. gguf-lora: "
            "the adapter, for llama.cpp. gguf: a whole model, for llama.cpp and Ollama.",
        ),
    ] = "peft"
    modelfile: Annotated[bool, Meta(description="Add a Modelfile for Ollama; not with peft.")] = False
    expert: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=MAX_SPECIALISTS + 4,
                description="Of several adapters in a layer, that one alone, as a plain adapter; 0 is the one that is "
                "shared.",
            ),
        ]
        | None
    ) = None


class UnbanQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose ban is to be lifted."""

    peer_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


Debugging = Literal["record", "story", "check", "no-check"]


class DebugQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wanted of the flight recorder."""

    action: Debugging
    """`record`: the last events as a file; `story`: what of them is about `word`; `check` and `no-check`: whether the
    invariants of the core are looked at after every event."""
    word: Annotated[str, msgspec.Meta(max_length=128)] = ""
    """Of `story`: a peer's id or a blob's digest, or the end of one."""


class StopQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why, for the log."""

    reason: Annotated[str, msgspec.Meta(max_length=300)] = "asked over the control socket"


def last_rounds(last: int = USUAL_ROUNDS) -> LastRounds:
    """Of the last so many rounds."""
    return LastRounds(last=last)


def generate(
    prompt: str, *, max_tokens: int = USUAL.max_tokens, temperature: float = USUAL.temperature, seed: int = USUAL.seed
) -> GenerateQuestion:
    return GenerateQuestion(prompt=prompt, max_tokens=max_tokens, temperature=temperature, seed=seed)


def respond(
    prompt: str | None = None,
    *,
    chat: Sequence[ChatLine] = (),
    model: Model = "served",
    max_tokens: int = USUAL_RESPONSE.max_tokens,
    temperature: float = USUAL_RESPONSE.temperature,
    top_p: float = USUAL_RESPONSE.top_p,
    seed: int = 0,
    stop: Sequence[str] = (),
    choices: int | None = None,
    cuts: bool = True,
) -> RespondQuestion:
    """Raises UsageError for neither or both of a prompt and a chat."""
    try:
        return RespondQuestion(
            prompt=prompt, chat=tuple(chat), model=model, max_tokens=max_tokens, temperature=temperature, top_p=top_p,
            seed=seed, stop=tuple(stop), choices=choices, cuts=cuts,
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(str(error)) from error


def export(
    folder: str | os.PathLike[str],
    which: Which = "served",
    format: ExportFormat = "peft",  # noqa: A002  # as the option is called
    *,
    modelfile: bool = False,
    expert: int | None = None,
) -> ExportQuestion:
    """One of the models, into a folder. Raises UsageError for what is no folder's name."""
    return ExportQuestion(folder=str(target(folder)), which=which, format=format, modelfile=modelfile, expert=expert)


def evaluate(
    *files: str | os.PathLike[str], max_tokens: int = EvalQuestion().max_tokens, again: bool = False
) -> EvalQuestion:
    """On these files and folders, or on the own test split if none is named. Raises UsageError."""
    return checked(
        EvalQuestion,
        {"files": [str(absolute(os.fsdecode(file))) for file in files], "max_tokens": max_tokens, "again": again},
    )


def unban(peer_id: str) -> UnbanQuestion:
    return UnbanQuestion(peer_id=peer_id)


def stop(reason: str = "asked by a client") -> StopQuestion:
    return StopQuestion(reason=reason)


def target(folder: str | os.PathLike[str]) -> Path:
    """The folder to export to, as it is meant where it is typed: the daemon stands elsewhere.

    Raises UsageError for what is no folder's name, and for a file.
    """
    text = os.fsdecode(folder)
    if not text.strip() or "\0" in text:
        raise UsageError("the folder's name is empty", "name one, for example: peerd export ./my-adapter")
    try:
        text.encode()
        path = Path(os.path.normpath(absolute(text)))
    except UnicodeEncodeError as error:
        raise UsageError("the folder's name holds bytes that are no UTF-8", "choose another name") from error
    try:
        if not path.is_dir() and (path.exists() or path.is_symlink()):
            raise UsageError(f"{path} is a file", "name a folder")
    except OSError as error:
        raise UsageError(f"{path} cannot be used: {error.strerror}", "choose another folder") from error
    return path


def checked(kind: type[Asked], fields: Mapping[str, Any]) -> Asked:
    """The question of these fields, as the daemon would take it. Raises UsageError that names the field."""
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        said, _, where = str(error).partition(" - at `$.")
        name = where.rstrip("`")
        if meant := _meant(kind, name):
            raise UsageError(f"{name} is {meant}") from error
        raise UsageError(f"{name}: {said[0].lower()}{said[1:]}" if name else said) from error


def from_query(kind: type[Asked], given: Mapping[str, str]) -> Asked:
    """The question that a GET carries behind its path; what no field is called is passed over. Raises UsageError."""
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    return checked(kind, {name: _number(text) for name, text in given.items() if name in known})


def _number(text: str) -> int | str:
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else text


def _meant(kind: type[Any], name: str) -> str:
    """What a field's own type says that it has to be; empty if it says nothing."""
    hint = get_type_hints(kind, include_extras=True).get(name)
    return next((found.title or "" for found in getattr(hint, "__metadata__", ())), "")


def debug(action: Debugging, word: str = "") -> DebugQuestion:
    return DebugQuestion(action=action, word=word)
