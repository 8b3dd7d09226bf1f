"""A newcomer among whole daemons: what it asks, what it is told, and what stays of it."""

from __future__ import annotations

import asyncio

import pytest

from peerd.control.assembly import in_words
from peerd.core import dials
from peerd.net.exchanges import Asked
from peerd.net.transport import Found

NEWCOMER = {"assemble": True, "max_neighbours": 1}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Who connects hears what was said last without waiting for its next turn."""
    monkeypatch.setattr(dials, "MIN_REPEAT_SECONDS", 0.0)
    monkeypatch.setattr(dials, "SETTLE_SECONDS", 0.0)


def introduce(one, other):
    """As a discovery method would."""
    one.daemon._found(Found(other.me, (f"/memory/{other.me}/p2p/{other.me}",), "test"))


async def is_up(running):
    await running.until(lambda: running.status().addresses and running.status().state != "starting")


async def has_published(running):
    await running.until(lambda: running.shell.node.own is not None and running.journal.records)


def test_a_newcomer_begins_with_what_a_sharer_has_once_in_the_life_of_its_home(world):
    async def scenario():
        async with world.daemon("sharer", rounds=2, gate_steps=1) as sharer:
            await has_published(sharer)
            async with world.daemon("new", rounds=1, **NEWCOMER) as new:
                await is_up(new)
                assert new.status().state == "gathering"
                introduce(new, sharer)
                first, second = await new.rounds(2)

                assert (first.round, second.round) == (0, 1)
                assert first.row == {new.me: 0.0, sharer.me: 1.0}
                assert first.guard_personal < first.guard_base
                assert second.guard_own < first.guard_personal
                assert new.status().assembly.startswith("assembled from 1 peer in ")
                assert in_words(second) == ""
                assert new.status().merges.round is not None
                assert not list(new.paths.scratch.glob("gates-*"))
            async with world.daemon("new", rounds=2, **NEWCOMER) as again:
                await again.rounds(3)

                assert [record.round for record in again.journal.records] == [0, 1, 2]
                assert again.status().assembly.startswith("assembled from 1 peer in ")

    asyncio.run(scenario())


def test_who_trains_no_gates_says_so_and_the_newcomer_trains_as_usual(world):
    async def scenario():
        async with world.daemon("other", rounds=2) as other:
            await has_published(other)
            async with world.daemon("new", rounds=1, **NEWCOMER) as new:
                await is_up(new)
                introduce(new, other)
                (first,) = await new.rounds(1)

                said = new.status().assembly
                assert first.round == 1
                assert "of 1 neighbour nobody gave gates" in said
                assert "1 peer: trains no gates (peerd start --gate-steps N)" in said
                assert said.endswith("training began as usual")

    asyncio.run(scenario())


def test_gates_are_given_again_after_a_restart_though_nothing_is_published_anew(world):
    async def scenario():
        async with world.daemon("sharer", rounds=1, gate_steps=1) as sharer:
            await sharer.until(lambda: sharer.status().state == "resting")
        async with world.daemon("sharer", rounds=1, gate_steps=1) as sharer:
            await sharer.until(lambda: sharer.status().state == "resting")
            own = sharer.daemon._performer.newcomer._own
            answer = await own.answer(Asked(sharer.me, "", b""))

            assert answer == b"\x011"

    asyncio.run(scenario())
