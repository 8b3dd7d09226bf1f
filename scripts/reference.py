"""Write the generated parts of the documents, or check that they are up to date (`--check`).

Between `<!-- generated: NAME -->` and `<!-- end -->` stands what the code says of itself: the JSON of every command
from its types, the options of every command from its command line, the plug-ins from their docstrings.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sys
import tomllib
import types
import typing
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import typer.main

from p2pfinetune.options.sections import described

ROOT = Path(__file__).parents[1]
CASES_ROUNDED = 25
REGISTRIES = {
    "Trainers": ("p2pfinetune.training.trainers", "TRAINERS"),
    "Trust schemes": ("p2pfinetune.trust", "SCHEMES"),
    "Merge rules": ("p2pfinetune.merge", "RULES"),
    "Codecs": ("p2pfinetune.codec", "CODECS"),
    "Discovery methods": ("peerd.discovery", "METHODS"),
    "Panels of the dashboard": ("peerd.control.panels", "PANELS"),
}
"""Where each kind of plug-in is registered; a wall checks that none is missing."""
MARK = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Rewrite, or with --check say which files differ."""
    stale = []
    for path in sorted(ROOT.glob("docs/**/*.md")):
        text = path.read_text()
        fresh = MARK.sub(lambda m: m[1] + PARTS[m["name"]]() + m[3], text)
        if fresh != text:
            stale.append(path.relative_to(ROOT))
            if "--check" not in sys.argv:
                path.write_text(fresh)
    if stale and "--check" in sys.argv:
        print("out of date, run `python scripts/reference.py`: " + ", ".join(map(str, stale)))
        return 1
    return 0


def json_documents() -> str:
    """Every command's `data`."""
    from p2pfinetune.cli.answers import Simulated
    from p2pfinetune.compare.overview import Overview
    from p2pfinetune.compare.summary import Summary
    from peerd.cli.commands import COMMANDS
    from peerd.control.verbs import DATA
    from peerd.demo.result import DemoResult

    printed = {**DATA, "demo": DemoResult}
    kinds: dict[str, Any] = {f"peerd {command.name}": printed[command.name] for command in COMMANDS}
    kinds |= {"p2pfinetune simulate": Simulated, "p2pfinetune reproduce": Summary, "p2pfinetune compare": Overview}
    lines: list[str] = []
    for command, kind in kinds.items():
        lines += [f"### `{command} --json`", ""]
        lines += ["A map of names to texts.", ""] if not is_struct(kind) else [*fields_of(kind), ""]
    lines += [
        "With `--ablate`: `setting`, `mix`, `model`, `ablation`, and `variants` of a `name` and a `summary` as above.",
        "",
    ]
    return "\n".join(lines)


def endpoints(verbs: Iterable[Any] | None = None) -> str:
    """A row a verb of the control interface."""
    from peerd.control.verbs import VERBS

    lines = ["| endpoint | what it does | asked | answered |", "|---|---|---|---|"]
    for verb in VERBS if verbs is None else verbs:
        asked = ", ".join(asked_of(verb.question)) or "nothing"
        lines.append(f"| `{verb.method} {verb.path}` | {verb.says} | {asked} | {answered_by(verb)} |")
    return "\n".join([*lines, ""])


def asked_of(kind: Any) -> Iterator[str]:
    """Each field with what it may hold, what it means, and what it holds if it is left out."""
    hints, said = typing.get_type_hints(kind, include_extras=True), described(kind)
    for field in msgspec.structs.fields(kind):
        hint, *metas = typing.get_args(hint) if hasattr(hint := hints[field.name], "__metadata__") else [hint]
        sentence = said.get(field.name, "").rstrip(".")
        meaning = f" ({sentence[0].lower()}{sentence[1:]})" if sentence else ""
        default = "" if field.required else f", else {json.dumps(field.default)}"
        is_list = typing.get_origin(hint) in (list, tuple)
        bounds = "".join(bounds_of(found, is_list=is_list) for found in metas)
        yield f"`{field.encode_name}` {spelled(hint)}{bounds}{meaning}{default}"


def bounds_of(found: msgspec.Meta, *, is_list: bool) -> str:
    """In words."""
    if found.max_length is not None:
        return f" of at most {found.max_length} {'things' if is_list else 'characters'}"
    if found.gt is not None:
        return f" above {found.gt}, to {found.le}"
    return f" from {found.ge} to {found.le}" if found.ge is not None else ""


def answered_by(verb: Any) -> str:
    """The command that prints it as its `data`, or the names of its fields."""
    from peerd.control.verbs import DATA

    printed = next((command for command, kind in DATA.items() if kind is verb.answer), "")
    if verb.answer is str:
        return "plain text"
    if verb.is_stream:
        return f"events, each as of `peerd {printed}`" if printed else "events, as below"
    if printed:
        return f"as of `peerd {printed}`"
    if not is_struct(verb.answer):
        return spelled(verb.answer)
    return ", ".join(f"`{field.encode_name}`" for field in msgspec.structs.fields(verb.answer))


def is_struct(kind: Any) -> bool:
    """Whether it is a type of ours with fields."""
    return inspect.isclass(kind) and issubclass(kind, msgspec.Struct)


def fields_of(kind: Any, indent: str = "") -> list[str]:
    """A bullet a field, nested types below."""
    hints, said = typing.get_type_hints(kind), described(kind)
    lines = []
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        text = f": {said[field.name]}" if field.name in said else ""
        lines.append(f"{indent}- `{field.name}` {spelled(hint)}{text}")
        for inner in structs_in(hint):
            lines += fields_of(inner, indent + "  ")
    return lines


def structs_in(hint: Any) -> Iterator[Any]:
    """Our types inside an annotation."""
    if is_struct(hint):
        yield hint
    for inner in typing.get_args(hint):
        yield from structs_in(inner)


def spelled(hint: Any) -> str:
    """An annotation in words of JSON."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hasattr(hint, "__metadata__"):
        return spelled(args[0])
    if origin in (types.UnionType, typing.Union):
        return " or ".join(spelled(a) for a in args)
    if origin is list:
        return f"[{spelled(args[0])}]"
    if origin is tuple and args[-1] is Ellipsis:
        return f"[{spelled(args[0])}]"
    if origin is tuple:
        return "[" + ", ".join(spelled(a) for a in args) + "]"
    if origin is dict:
        return "{" + f"{spelled(args[0])}: {spelled(args[1])}" + "}"
    if hint is type(None):
        return "null"
    if origin is typing.Literal:
        return " or ".join(f'"{word}"' for word in args)
    hint = getattr(hint, "__supertype__", hint)
    names = {str: "text", float: "number", int: "integer", bool: "true or false"}
    return "object" if is_struct(hint) else names.get(hint, str(hint))


def simulation_options() -> str:
    """A table for what stands at the top of the file, and one for each table of it."""
    from p2pfinetune.simulation.config import PeerText, SettingText, SimulationConfig

    tables = {name: kind for name, kind in typing.get_type_hints(SimulationConfig).items() if is_struct(kind)}
    lines = option_table(SimulationConfig, passed=set(tables))
    for name, kind in {"[peers]": PeerText, "setting": SettingText, **tables}.items():
        lines += [f"`[{name}]`: {(inspect.getdoc(kind) or '').splitlines()[0]}", "", *option_table(kind)]
    return "\n".join(lines)


def option_table(kind: Any, passed: Container[str] = ()) -> list[str]:
    """A row a field, but for those that are tables of their own."""
    lines, said = ["| option | default | meaning |", "|---|---|---|"], described(kind)
    for field in msgspec.structs.fields(kind):
        if field.name not in passed:
            default = "" if field.required else f"`{json.dumps(default_of(field))}`"
            lines.append(f"| `{field.name}` | {default} | {said.get(field.name, '')} |")
    return [*lines, ""]


def default_of(field: Any) -> Any:
    """Made anew where it is a map."""
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def command_line() -> str:
    """Every command with its options."""
    from bootstrap.cli import app as bootstrap_app
    from p2pfinetune.cli.app import build as build_learning
    from peerd.cli.app import build

    lines: list[str] = []
    groups: dict[str, Any] = {
        "peerd": typer.main.get_command(build()),
        "peerd-bootstrap": typer.main.get_command(bootstrap_app),
        "p2pfinetune": typer.main.get_command(build_learning()),
    }
    for name, group in groups.items():
        for verb, command in group.commands.items():
            lines += [f"### `{name} {verb}`", "", inspect.cleandoc(command.help or ""), ""]
            lines += [*option_rows(command), ""]
    return "\n".join(lines)


def option_rows(command: Any) -> list[str]:
    """A table of arguments and options."""
    rows = ["| option | meaning |", "|---|---|"]
    for parameter in command.params:
        name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.name.upper()
        value = f" {parameter.metavar}" if parameter.metavar and parameter.param_type_name == "option" else ""
        text = (getattr(parameter, "help", "") or "").replace("\\[", "[")
        rows.append("| `{}` | {} |".format(f"{name}{value}".replace("|", "\\|"), text))
    return rows if len(rows) > 2 else []


def plug_ins() -> str:
    """Everything that one file adds, with its options."""
    lines: list[str] = []
    for title, (package, where) in REGISTRIES.items():
        registry = getattr(importlib.import_module(package), where)
        lines += [f"## {title}", "", f"One file each in `{package.replace('.', '/')}/`.", ""]
        for name in registry.names():
            shown = getattr(registry.find(name), "title", "")
            options = ", ".join(f"`{k} = {v}`" for k, v in registry.options(name).items())
            lines += [f"### `{name}`", "", *([f"On the page: {shown}.", ""] if shown else []), registry.help(name), ""]
            lines += [f"Options: {options}", ""] if options else []
    return "\n".join(lines)


def rooms() -> str:
    """Every package with the first sentence of its own words."""
    roots = [ROOT / name for name in ("p2pfinetune", "peerd", "bootstrap")]
    packages = [path for root in roots for path in sorted(root.glob("**/__init__.py"))]
    said = {path.parent: ast.get_docstring(ast.parse(path.read_text())) for path in packages}
    rows = [f"| `{room.relative_to(ROOT)}` | {first_sentence(words)} |" for room, words in said.items() if words]
    return "\n".join(["| room | what it is |", "|---|---|", *rows, ""])


def floors() -> str:
    """The layers of the import rules, from the top: the floor plan as it is enforced."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    houses = {one["containers"][0]: one["layers"] for one in contracts if one["type"] == "layers"}
    drawn = ["\n".join([house, *(f"  | {layer.replace(' | ', ', ')}" for layer in houses[house])]) for house in houses]
    return "\n".join(["```", "\n\n".join(drawn), "```", ""])


def decisions() -> str:
    """The records of decisions by their titles."""
    files = sorted((ROOT / "docs/adr").glob("*.md"))
    titles = [path.read_text().splitlines()[0].removeprefix("# ") for path in files]
    return "\n".join([*(f"* [{title}](adr/{path.name})" for title, path in zip(titles, files, strict=True)), ""])


def first_sentence(words: str) -> str:
    """Up to a full stop that ends one, on one line."""
    return re.split(r"(?<=[.])\s", " ".join(words.split()))[0].replace("|", "\\|")


def trust_schemes() -> str:
    """Each in its first sentence."""
    from p2pfinetune.trust import SCHEMES
    from peerd.config import Config

    usual = Config().trust
    rows = [
        f"| `{name}`{' (default)' if name == usual else ''} | {first_sentence(SCHEMES.help(name))} |"
        for name in SCHEMES.names()
    ]
    return "\n".join(["| scheme | what it does |", "|---|---|", *rows, ""])


def exit_codes() -> str:
    """What a command ends with, as the errors say of themselves."""
    from peerd import errors

    kinds = {kind.exit_code: kind for kind in subclasses(errors.PeerdError) if kind.__base__ is errors.PeerdError}
    told = {0: "Fine.", 1: "It failed; the message says why.", 130: "Interrupted (Ctrl-C)."}
    told |= {code: inspect.getdoc(kind) or "" for code, kind in kinds.items() if code > 1}
    return "\n".join(["| code | meaning |", "|---|---|", *(f"| {code} | {told[code]} |" for code in sorted(told)), ""])


def subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    """Itself included."""
    yield kind
    for inner in kind.__subclasses__():
        yield from subclasses(inner)


def cases(matrix: str) -> str:
    """The sections of a coverage matrix that hold cases, and how many there are, rounded down: a new row is no news."""
    text = (ROOT / "docs" / matrix).read_text()
    count, lines = 0, []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        if rows := re.findall(r"^\| .*`tests/.*::.*\|$", section, re.MULTILINE):
            title = section.splitlines()[0]
            lines.append(f"* [{title}]({matrix}#{anchor(title)})")
            count += len(rows)
    return "\n".join(
        [f"More than {count // CASES_ROUNDED * CASES_ROUNDED} cases, each with its tests:", "", *lines, ""]
    )


def anchor(title: str) -> str:
    """Of a heading, as pages of GitHub name it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


PARTS = {
    "simulation-options": simulation_options,
    "endpoints": endpoints,
    "json-documents": json_documents,
    "command-line": command_line,
    "plug-ins": plug_ins,
    "trust-schemes": trust_schemes,
    "exit-codes": exit_codes,
    "rooms": rooms,
    "floors": floors,
    "decisions": decisions,
    "cases-of-reliability": lambda: cases("reliability.md"),
    "cases-of-the-threat-model": lambda: cases("threat-model.md"),
}

if __name__ == "__main__":
    sys.exit(main())
