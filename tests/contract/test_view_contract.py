"""One suite for what the control interface sees: the view of a whole daemon, and the one its own tests are served by.

That both have the methods of the port, and their types, is in tests/peerd/daemon/test_live_view.py.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from p2pfinetune.names import PeerId
from peerd.control.api import application
from peerd.control.handlers import DaemonView
from peerd.control.questions import EvalQuestion, GenerateQuestion
from peerd.daemon import assembly
from peerd.status import Status
from tests.support.daemons import World
from tests.support.view import FakeView

ROUNDS = 3
PATIENCE_SECONDS = 60.0
Play = Callable[[Callable[[DaemonView, Callable[[], None]], Coroutine[Any, Any, Any]]], Any]


@asynccontextmanager
async def real() -> AsyncIterator[tuple[DaemonView, Callable[[], None]]]:
    """Of a daemon whose rounds go on; and what lets something happen in it."""
    seen: list[DaemonView] = []

    def watched(view: DaemonView) -> Any:
        seen.append(view)
        return application(view)

    with tempfile.TemporaryDirectory(prefix="pd-") as folder, patch.object(assembly, "application", watched):
        async with World(Path(folder)).daemon(rounds=0, collect_seconds=0.05, patience=1000) as running:
            await running.rounds(ROUNDS)
            yield seen[0], lambda: None


@asynccontextmanager
async def fake() -> AsyncIterator[tuple[DaemonView, Callable[[], None]]]:
    """One that has done some rounds; and what ends another."""
    view = FakeView(rounds=ROUNDS, alone=True)
    view.stop = asyncio.Event()
    yield view, view.finish_round


@pytest.fixture(params=[real, fake])
def play(request: pytest.FixtureRequest) -> Play:
    """Plays a scenario with a view of each kind."""

    def run(scenario: Callable[[DaemonView, Callable[[], None]], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            async with asyncio.timeout(PATIENCE_SECONDS), request.param() as (view, go_on):
                return await scenario(view, go_on)

        return asyncio.run(main())

    return run


def same_over_the_socket(value: Any) -> bool:
    """Whether it is what its type says: JSON of it is read as the same again."""
    return bool(msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value)


def test_rounds_are_the_last_ones_and_the_oldest_comes_first(play: Play) -> None:
    async def scenario(view: DaemonView, go_on: Callable[[], None]) -> None:
        every, last = view.rounds(1000), view.rounds(2)
        numbers = [record.round for record in every]
        assert numbers == list(range(1, len(numbers) + 1))
        assert last == every[-2:]
        assert all(same_over_the_socket(record) for record in every)
        assert all(sum(record.row.values()) == pytest.approx(1.0) for record in every)

    play(scenario)


def test_the_snapshot_is_of_the_round_after_the_last_record(play: Play) -> None:
    async def scenario(view: DaemonView, go_on: Callable[[], None]) -> None:
        status, records = view.status(), view.rounds(1000)
        assert isinstance(status, Status)
        assert same_over_the_socket(status)
        assert status.round == records[-1].round + 1
        assert status.sentence
        assert status.addresses
        assert {record.row.keys() == {status.peer_id} for record in records} == {True}  # each is alone

    play(scenario)


def test_what_left_the_device_is_told_for_the_last_rounds_alone(play: Play) -> None:
    async def scenario(view: DaemonView, go_on: Callable[[], None]) -> None:
        every, last = view.sent(1000), view.sent(2)
        assert same_over_the_socket(every)
        now = view.status().round
        assert last.updates == [update for update in every.updates if update.round >= now - 1]
        assert all(row.round is None or row.round >= now - 1 for row in last.rows)  # older ones share a row
        assert [update.round for update in every.updates][:2] == [1, 2]

    play(scenario)


def test_every_watcher_is_woken_when_something_has_happened(play: Play) -> None:
    async def scenario(view: DaemonView, go_on: Callable[[], None]) -> None:
        async def woken() -> int:
            async for _ in view.changes():
                return view.status().round
            return 0

        watching = [asyncio.create_task(woken()) for _ in range(3)]
        await asyncio.sleep(0)
        go_on()
        assert min(await asyncio.gather(*watching)) > 0

    play(scenario)


def test_a_prompt_is_continued_by_the_model_that_is_served(play: Play) -> None:
    async def scenario(view: DaemonView, go_on: Callable[[], None]) -> None:
        found = await view.generate(GenerateQuestion(prompt="Dear", max_tokens=4, temperature=0.0, seed=1))
        assert found.prompt == "Dear"
        assert found.served == getattr(found, found.served_by, found.served)
        assert same_over_the_socket(found)

    play(scenario)


def test_losses_on_the_test_split_are_measured(play: Play) -> None:
    async def scenario(view: DaemonView, go_on: Callable[[], None]) -> None:
        found = await view.test_losses()
        assert same_over_the_socket(found)
        assert min(found.base, found.own, found.personal, found.served) > 0

    play(scenario)


def test_every_model_is_measured_on_a_text_and_on_the_test_split(play: Play, tmp_path: Path) -> None:
    text = tmp_path / "letter.txt"
    text.write_text("Dear all, the ship leaves at dawn and nobody knows why. " * 40, encoding="utf-8")

    async def scenario(view: DaemonView, go_on: Callable[[], None]) -> None:
        for files, on in (((str(text),), "files"), ((), "heldout")):
            found = await view.evaluate(EvalQuestion(files=files, max_tokens=256))
            assert same_over_the_socket(found)
            assert found.on == on
            assert {"base", "own", "personal", "served"} <= found.models.keys()
            assert 0 < found.tokens <= found.of_tokens
            assert len(found.looks) == (on == "heldout")

    play(scenario)


def test_lifting_a_ban_of_nobody_changes_nothing(play: Play) -> None:
    async def scenario(view: DaemonView, go_on: Callable[[], None]) -> None:
        await view.lift_ban(PeerId("12D3KooWnobody"))
        assert view.status().banned == []

    play(scenario)


def test_it_is_told_where_the_files_are(play: Play) -> None:
    async def scenario(view: DaemonView, go_on: Callable[[], None]) -> None:
        assert "home" in view.paths()

    play(scenario)


def test_a_stop_is_asked_for_and_not_waited_for(play: Play) -> None:
    async def scenario(view: DaemonView, go_on: Callable[[], None]) -> None:
        view.request_stop("a test")
        view.request_stop("again")

    play(scenario)
