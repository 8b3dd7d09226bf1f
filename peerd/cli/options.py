"""The options of `peerd start`, made from the fields of `Config`: name, type, range and help stand there alone."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Mapping
from typing import Annotated, Any, get_origin, get_type_hints

import msgspec
import typer

from p2pfinetune.codec import CODECS
from p2pfinetune.merge import RULES
from p2pfinetune.names import SHARINGS
from p2pfinetune.options.sections import described
from p2pfinetune.registry import Registry
from p2pfinetune.training.trainers import TRAINERS
from p2pfinetune.trust import SCHEMES
from peerd.config import Config
from peerd.errors import UsageError

FIRST = (
    "data",
    "encoding",
    "me",
    "loss",
    "keep_secrets",
    "model",
    "trust",
    "reference",
    "name",
    "group",
    "group_key",
    "bootstrap",
    "peer",
    "lan",
    "listen",
    "announce",
    "twin",
)
"""What most people need; the rest is listed below it in the help."""

METAVARS = {
    "data": "PATH",
    "encoding": "[PATH=]NAME",
    "model": "NAME|PATH",
    "trust": "SCHEME",
    "reference": "FILE",
    "group_key": "FILE",
    "bootstrap": "MULTIADDR",
    "peer": "MULTIADDR",
    "listen": "MULTIADDR",
    "announce": "MULTIADDR",
    "twin": "auto|on|off",
    "sharing": "|".join(SHARINGS),
    "mixing": "token|layer|sum",
    "loss": "answers|all",
    "me": "NAME",
}
REGISTRIES: dict[str, Registry[Any]] = {"trainer": TRAINERS, "trust": SCHEMES, "merge": RULES, "codec": CODECS}
FROM_A_FILE = ("shares",)  # set by the demo alone, in config.toml
PAIRS = {
    "trainer_options": ("--trainer-option", "momentum=0.5"),
    "trust_options": ("--trust-option", "top_k=3"),
    "merge_options": ("--merge-option", "trimmed=0.3"),
    "assemble_options": ("--assemble-option", "choose=loss"),
    "encoding": ("--encoding", "old-mail=koi8-r"),
}
"""Fields that are given as SWITCH KEY=VALUE, the switch and an example."""


def parameters() -> list[inspect.Parameter]:
    """One keyword parameter a field, all of them optional: what is not given is remembered or default."""
    helps, hints = described(Config), get_type_hints(Config)
    fields = [field for field in msgspec.structs.fields(Config) if field.name not in FROM_A_FILE]
    fields.sort(key=lambda field: FIRST.index(field.name) if field.name in FIRST else len(FIRST))
    return [_parameter(field.name, hints[field.name], helps[field.name], field.default) for field in fields]


def _parameter(name: str, kind: Any, text: str, default: Any) -> inspect.Parameter:
    switch = PAIRS[name][0] if name in PAIRS else "--" + name.replace("_", "-")
    if kind is bool:
        switch = f"{switch}/--no-{name.replace('_', '-')}"
    option = typer.Option(
        switch,
        help=text + _choices(name) + _shown(default),
        metavar=METAVARS.get(name, "KEY=VALUE" if name in PAIRS else None),
        show_default=False,
        rich_help_panel="Options" if name in FIRST else "More options, all remembered too",
    )
    many = get_origin(kind) in {tuple, dict}
    plain: Any = list[str] if many else kind
    annotation = Annotated[plain | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _choices(name: str) -> str:
    return f" One of: {', '.join(REGISTRIES[name].names())}." if name in REGISTRIES else ""


def _shown(default: Any) -> str:
    if (
        default in ("", (), False)
        or default is msgspec.NODEFAULT
        or isinstance(default, dict | types.BuiltinFunctionType)
    ):
        return ""
    return f" [default: {', '.join(default) if isinstance(default, tuple) else default}]".replace("[", r"\[")


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed, as Config takes it. An option given as an empty string forgets what was remembered."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or value == []:
            continue
        if name == "encoding":
            found[name] = dict(_encoding(text) for text in value if text)
        elif name in PAIRS:
            found[name] = dict(_pair(text, *PAIRS[name]) for text in value)
        elif isinstance(value, list):
            found[name] = [text for text in value if text]
        else:
            found[name] = value
    return found


def _encoding(text: str) -> tuple[str, str]:
    """A path and what its text is in; an empty path if that is said of all."""
    path, _, name = text.rpartition("=")
    return path, name


def _pair(text: str, switch: str, example: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"{switch}: {text!r} is not KEY=VALUE", f"for example: {switch} {example}")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        return key, value
