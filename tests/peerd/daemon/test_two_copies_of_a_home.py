"""Whole daemons over real libp2p: two copies of one home are both told, a restored one is told what it lost."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from peerd.core import node
from peerd.daemon.ports import libp2p
from peerd.net import limits

LISTEN = ("/ip4/127.0.0.1/tcp/0",)


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(limits, "ECHO_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(node, "REPEAT_SECONDS", 2.0)  # a restored home hears of its lost rounds by a repetition


def over_libp2p(world):
    return world.ports(transport=libp2p)


def copied(world, one, other):
    shutil.copytree(world.folder / one, world.folder / other, ignore=shutil.ignore_patterns("*.sock", "*.lock"))


def says(daemon, words):
    now = daemon.status()
    return any(words in sentence for sentence in (*now.health.reasons, *now.notices))


def test_two_copies_of_one_home_are_both_told_by_whom_they_are_connected_with(world):
    async def main():
        ports = over_libp2p(world)
        async with world.daemon("a", ports=ports, listen=LISTEN, rounds=1) as first:
            await first.rounds(1)
        copied(world, "a", "b")
        async with world.daemon("c", ports=ports, listen=LISTEN, rounds=1) as common:
            await common.until(lambda: common.status().addresses)
            known = {
                "ports": ports,
                "listen": LISTEN,
                "peer": (common.status().addresses[0],),
                "rounds": 2,
                "collect_seconds": 1.0,
            }
            async with world.daemon("a", **known) as one, world.daemon("b", **known) as two:
                assert one.me == two.me != common.me
                for daemon in (one, two):
                    await daemon.until(lambda daemon=daemon: says(daemon, "Another daemon runs with this identity"))
                    assert not daemon.status().health.ok
                assert says(two, "This home is a copy")
                assert not says(one, "This home is a copy")

    asyncio.run(main())


def test_a_restored_home_is_told_how_much_of_its_life_is_lost(world):
    async def main():
        ports = over_libp2p(world)
        async with world.daemon("a", ports=ports, listen=LISTEN, rounds=1) as early:
            await early.rounds(1)
        copied(world, "a", "backup")
        async with world.daemon("c", ports=ports, listen=LISTEN, rounds=1) as common:
            await common.until(lambda: common.status().addresses)
            known = {"ports": ports, "listen": LISTEN, "peer": (common.status().addresses[0],), "collect_seconds": 1.0}
            async with world.daemon("a", rounds=4, **known) as late:
                await late.rounds(4)
                await common.until(lambda: any(one.round == 4 for one in common.status().neighbours))
            await asyncio.to_thread(shutil.rmtree, world.folder / "a")
            (world.folder / "backup").rename(world.folder / "a")
            async with world.daemon("a", rounds=2, **known) as restored:
                await restored.until(lambda: says(restored, "so 3 of its rounds are lost"))
                await common.until(lambda: any(one.round == 2 for one in common.status().neighbours))
                assert restored.status().health.ok
                assert not common.shell.node.standings

    asyncio.run(main())
