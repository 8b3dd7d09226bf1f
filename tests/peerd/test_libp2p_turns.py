"""Whose turn it is to be served, in virtual time."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2pfinetune.names import PeerId
from peerd.net import limits
from peerd.net.libp2p.turns import Turns
from peerd.wire.places import place_behind

HERE, THERE = "192.0.2.1", "198.51.100.7"
SLOW_SECONDS = 600.0


def in_virtual_time(main):
    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def read_slowly(turns: Turns, peer: str, place: str) -> None:
    while True:  # whoever wants to keep others waiting asks again at once
        async with turns.of(PeerId(peer), place) as mine:
            await trio.sleep(SLOW_SECONDS if mine else 1.0)


def on_every_stream(crowd: trio.Nursery, turns: Turns, places: list[str]) -> None:
    for number, place in enumerate(places):  # a slow reader in each
        for _ in range(limits.MAX_STREAMS_PER_PEER):
            crowd.start_soon(read_slowly, turns, f"sybil-{number}", place)


async def answer(turns: Turns, peer: str = "honest", place: str = THERE) -> tuple[bool, float]:
    began = trio.current_time()
    async with turns.of(PeerId(peer), place) as mine:
        return mine, trio.current_time() - began


def test_a_crowd_of_slow_readers_behind_one_address_leaves_turns_to_others():
    async def main():
        turns = Turns(limits.MAX_UPLOADS)
        async with trio.open_nursery() as crowd:
            on_every_stream(crowd, turns, [HERE] * 12)
            await trio.sleep(7.0)

            assert await answer(turns) == (True, 0.0)
            assert not (await answer(turns, "neighbour", HERE))[0]  # what one address costs stays there
            crowd.cancel_scope.cancel()

    in_virtual_time(main)


def test_five_peers_that_open_every_stream_they_may_do_not_fill_the_queue():
    async def main():
        turns = Turns(limits.MAX_UPLOADS)
        async with trio.open_nursery() as crowd:
            on_every_stream(crowd, turns, [f"192.0.2.{number}" for number in range(5)])
            await trio.sleep(1.0)

            assert await answer(turns) == (True, 0.0)
            crowd.cancel_scope.cancel()

    in_virtual_time(main)


@pytest.mark.parametrize("peers", [1, limits.MAX_UPLOADS])
def test_whose_turn_does_not_come_hears_so_in_time_and_holds_nothing(peers):
    async def main():
        turns = Turns(limits.MAX_UPLOADS)
        async with trio.open_nursery() as crowd:
            for number in range(peers):
                crowd.start_soon(read_slowly, turns, f"peer-{number}", f"192.0.2.{number}")
            await trio.sleep(1.0)

            assert await answer(turns, "peer-0", "192.0.2.0") == (False, limits.UPLOAD_PATIENCE_SECONDS)
            crowd.cancel_scope.cancel()
        assert await answer(turns, "peer-0", "192.0.2.0") == (True, 0.0)

    in_virtual_time(main)


def test_a_rate_that_leaves_one_turn_gives_it_to_anybody():
    async def main():
        assert await answer(Turns(1)) == (True, 0.0)

    in_virtual_time(main)


def test_a_crowd_behind_one_relay_wins_half_of_the_turns_and_leaves_room_to_wait():
    async def main():
        turns = Turns(limits.MAX_UPLOADS)
        async with trio.open_nursery() as crowd:
            on_every_stream(crowd, turns, [place_behind(HERE, f"sybil-{number}") for number in range(40)])
            await trio.sleep(7.0)

            assert await answer(turns) == (True, 0.0)
            waiting = turns._waiting
            assert (
                sum(count for name, count in waiting.items() if name.startswith(f"{HERE}/")) <= limits.MAX_WAITING // 2
            )
            crowd.cancel_scope.cancel()

    in_virtual_time(main)


def test_more_honest_peers_behind_one_relay_may_wait_than_at_one_address():
    async def main():
        def waiters(place_of_peer):
            return [(f"peer-{number}", place_of_peer(f"peer-{number}")) for number in range(32)]

        async def served(peers):
            turns, got = Turns(limits.MAX_UPLOADS), []

            async def one(peer, place):
                async with turns.of(PeerId(peer), place) as mine:
                    got.append(mine)
                    await trio.sleep(0.5)

            async with trio.open_nursery() as all_at_once:
                for peer, place in peers:
                    all_at_once.start_soon(one, peer, place)
            return sum(got)

        assert await served(waiters(lambda _: HERE)) == limits.MAX_WAITING_PER_ADDRESS
        assert await served(waiters(lambda peer: place_behind(HERE, peer))) == 32

    in_virtual_time(main)
