"""One table of verbs: what is added to it is a route, a method of both clients and a line of the document."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peerd import AsyncClient, Client
from peerd.cli import looking_commands, output
from peerd.cli.commands import NAMES, Command, asked_by
from peerd.cli.without_typer import LOOKS
from peerd.control import api, handlers, questions, verbs
from peerd.control.verbs import DATA, QUICK, VERBS, Methods, Verb
from peerd.machine.paths import Paths

ROOT = Path(__file__).parents[3]


def printed_blocks() -> list[str]:
    """The code of the how-to, as printed: the row, the method, the handler, the command."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/add-a-verb.md").read_text(), re.DOTALL)


@pytest.fixture
def uptime(monkeypatch: pytest.MonkeyPatch) -> Verb[Any, Any]:
    """The made-up verb of the how-to, added as it says."""
    row, method, handler, command = printed_blocks()
    monkeypatch.setattr(handlers, "HANDLERS", {**handlers.HANDLERS})
    names = {**vars(verbs)}
    exec(row, names)
    exec(f"class MoreMethods(Methods):\n{method}", names)
    monkeypatch.setattr(verbs, "UPTIME", names["UPTIME"], raising=False)
    exec(handler, vars(handlers) | {"HANDLERS": handlers.HANDLERS})
    monkeypatch.setattr(Methods, "uptime", names["MoreMethods"].uptime, raising=False)
    exec(command, vars(looking_commands) | {"say": output.say}, commands := {})
    monkeypatch.setattr(looking_commands, "uptime", commands["uptime"], raising=False)
    return names["UPTIME"]


def test_a_verb_that_is_added_as_the_how_to_says_is_a_route_a_method_of_both_clients_a_command_and_a_line(
    uptime: Verb[Any, Any], home: Path, view: Any, serve_view: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    made = api.application(view, (*VERBS, uptime), handlers.HANDLERS)
    monkeypatch.setattr("tests.support.view.application", lambda _: made)

    async def later(socket: Path) -> Any:
        async with AsyncClient(socket_path=socket) as client:
            return await client.uptime()

    with serve_view(Paths.of(home), view) as daemon, Client(socket_path=daemon.paths.socket) as client:
        assert client.uptime() == {"seconds": 7384.0}
        looking_commands.uptime(home)
        assert asyncio.run(later(daemon.paths.socket)) == {"seconds": 7384.0}
    assert capsys.readouterr().out == "7384 s\n"
    assert asked_by(uptime) == Command("uptime", "looking_commands", "uptime", "peerd uptime")
    assert "| `GET /v1/uptime` | For how long the daemon has run. | nothing | {text: number} |" in endpoints(uptime)


def endpoints(*more: Verb[Any, Any]) -> str:
    """Of the reference, with more verbs."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts/reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    return reference.endpoints((*VERBS, *more))


def test_a_verb_without_a_handler_and_a_handler_without_a_verb_are_no_interface(view: Any) -> None:
    first, *others = VERBS

    with pytest.raises(LookupError, match=first.name):
        api.routes(view, others, handlers.HANDLERS)
    with pytest.raises(LookupError, match="another"):
        api.routes(view, VERBS, {**handlers.HANDLERS, "another": handlers.status})


def test_each_verb_stands_once_and_has_a_method_unless_it_is_a_stream() -> None:
    with_a_method = {method.__name__ for name, method in vars(Methods).items() if name[0] != "_"}

    assert len({verb.name for verb in VERBS}) == len(VERBS)
    assert with_a_method == {verb.name for verb in VERBS if not verb.is_stream}


def test_the_commands_that_the_table_tells_of_exist() -> None:
    assert set(LOOKS) == QUICK
    assert {verb.name for verb in VERBS if verb.example} <= NAMES
    assert set(DATA) == NAMES - {"demo"}


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_method_tells_what_it_takes_and_does(kind: type[Any]) -> None:
    assert str(inspect.signature(kind.generate)).startswith("(self, prompt: 'str', *, max_tokens: 'int' = 64,")
    assert kind.generate.__doc__ == verbs.GENERATE.says


def test_a_question_says_what_a_field_has_to_be() -> None:
    with pytest.raises(questions.UsageError, match=r"^last is a number from 1 to 10000$"):
        questions.from_query(questions.LastRounds, {"last": "0", "other": "x"})


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.path)
def test_what_a_verb_is_asked_with_is_a_type_that_can_be_read(verb: Verb[Any, Any]) -> None:
    """A bound on a type that has none is found only when the first question comes."""
    if verb.question is not None:
        msgspec.json.Decoder(verb.question)
        msgspec.json.schema(verb.question)
