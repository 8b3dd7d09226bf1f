from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerd.daemon import text_watch
from peerd.daemon.text_watch import MAX_SHARE, TextWatch, pause_for_a_sign, pauses
from peerd.machine.file_signs import signs
from peerd.status import TextNow
from peerd.worker.messages import ReadAgain


class Enough(Exception):
    """The scenario is over."""


class Scene:
    """A text watch whose looks cost what they are said to cost, on a clock that only looks and pauses move."""

    def __init__(self, *, cost: float, told: bool, always_signs: bool = False) -> None:
        self.now, self.looks, self.cost, self.always_signs = 0.0, 0, cost, always_signs
        self.watch = TextWatch(
            [Path("/text")],
            None,  # type: ignore[arg-type]  # nothing changes here, so the worker is never asked
            None,  # type: ignore[arg-type]
            clock=lambda: self.now,
            look=self.look,
            signs=endless if told else none_at_all,
            stopwatch=lambda: self.now,
            pause=self.pause,
        )

    def look(self, _: Sequence[Path]) -> str:
        self.looks, self.now = self.looks + 1, self.now + self.cost
        return "the same"

    async def pause(self, least: float, most: float, _: asyncio.Event) -> None:
        await asyncio.sleep(0)
        self.now += least if self.always_signs else most
        if self.now > 24 * 3600:
            raise Enough

    def day(self) -> int:
        """How many looks a day has."""
        with pytest.raises(ExceptionGroup):
            asyncio.run(self.watch.run())
        return self.looks


async def endless(_: Sequence[Path]) -> AsyncIterator[None]:
    await asyncio.Event().wait()
    yield


async def none_at_all(_: Sequence[Path]) -> AsyncIterator[None]:
    for nothing in ():
        yield nothing


def test_a_resting_daemon_with_a_hundred_thousand_files_looks_at_them_a_hundredth_of_the_time_at_most() -> None:
    for told in (True, False):
        scene = Scene(cost=3.0, told=told)
        assert scene.day() * 3.0 <= 24 * 3600 * MAX_SHARE + 2 * 3.0


def test_a_file_that_is_written_all_the_time_costs_no_more_than_that() -> None:
    scene = Scene(cost=3.0, told=True, always_signs=True)

    assert scene.day() * 3.0 <= 24 * 3600 * MAX_SHARE + 2 * 3.0


def test_where_the_system_tells_of_changes_hardly_anything_is_looked_at() -> None:
    assert Scene(cost=0.01, told=True).day() * 9 < Scene(cost=0.01, told=False).day()


@given(st.floats(0.0, 1e6), st.booleans())
def test_looking_has_its_share_whatever_it_costs(cost: float, is_told: bool) -> None:
    least, most = pauses(cost, is_told=is_told)

    assert 0 < least <= most
    assert cost <= (cost + least) * MAX_SHARE * 1.02


@pytest.mark.parametrize("changed", [True, False])
def test_what_was_read_the_last_time_is_what_is_shown(changed: bool) -> None:
    class Reads:
        async def call(self, job: Any) -> ReadAgain:
            return ReadAgain(id=job.id, changed=changed, fingerprint="f", text=TextNow(files=3, skipped={"hidden": 1}))

    async def nothing(_: Any) -> None: ...

    watch = TextWatch([], Reads(), nothing, clock=lambda: 0.0, look=lambda _: "")  # type: ignore[arg-type]  # as a worker

    assert asyncio.run(watch._read_again())
    assert watch.now == TextNow(files=3, skipped={"hidden": 1})


def test_a_sign_ends_a_pause_and_no_sign_ends_it_in_time() -> None:
    async def scenario() -> None:
        sign = asyncio.Event()
        sign.set()
        await asyncio.wait_for(pause_for_a_sign(0.0, 3600.0, sign), 5)
        await asyncio.wait_for(pause_for_a_sign(0.0, 0.01, asyncio.Event()), 5)

    asyncio.run(scenario())


def changed(folder: Path) -> None:
    (folder / "note.txt").write_text("new")


def saved_as_editors_do(folder: Path) -> None:
    (folder / ".note.tmp").write_text("newer")
    (folder / ".note.tmp").replace(folder / "note.txt")


@pytest.mark.parametrize("change", [changed, saved_as_editors_do])
def test_the_system_gives_a_sign_of_a_change_in_a_folder_of_folders(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "note.txt").write_text("old")

    async def scenario() -> None:
        found = signs([tmp_path])
        waiting = asyncio.ensure_future(anext(found))
        while not waiting.done():  # the watch begins in a thread, and what happened before is no sign
            change(deep)
            await asyncio.wait([waiting], timeout=0.1)
        await found.aclose()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_change_of_a_file_whose_name_is_no_utf_8_is_a_sign_as_any_other(tmp_path: Path) -> None:
    async def both() -> int:
        found, seen = signs([tmp_path]), 0
        for name in ("caf\udce9.txt", "plain.txt"):
            waiting = asyncio.ensure_future(anext(found))
            while not waiting.done():
                (tmp_path / name).touch()
                await asyncio.wait([waiting], timeout=0.1)
            seen += waiting.exception() is None
        await found.aclose()
        return seen

    assert asyncio.run(both()) == 2


def test_where_the_system_has_no_watches_left_the_signs_end_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise OSError("OS file watch limit reached")

    caplog.set_level("INFO", "peerd")
    monkeypatch.setattr("watchfiles.awatch", refused)

    async def scenario() -> list[None]:
        return [sign async for sign in signs([tmp_path])]

    assert asyncio.run(scenario()) == []
    assert "limit reached" in caplog.text


def test_a_folder_that_is_not_there_gives_no_signs(tmp_path: Path) -> None:
    async def scenario() -> list[None]:
        return [sign async for sign in signs([tmp_path / "gone"])]

    assert asyncio.run(scenario()) == []
    assert text_watch.LOOK_SECONDS < text_watch.UNTOLD_SECONDS
