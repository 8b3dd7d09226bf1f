"""What one validly signed announcement can do to whole daemons: nothing. They live, and so do their connections."""

import asyncio

import msgpack

from p2pfinetune.names import Refusal
from peerd.wire import envelope
from peerd.wire.envelope import open_announcement
from peerd.wire.messages import Announcement
from tests.fuzz.announcements import signed
from tests.peerd.daemon.strangers import Stranger, network_of, together

DIGEST = "b" * 64 + "\n"


async def attacked(world):
    """What the attack needs: a digest that is none, fetched from nobody in particular, and its sender banned meanwhile."""
    async with (
        world.daemon("a", rounds=0, collect_seconds=0.3) as a,
        world.daemon("b", rounds=0, collect_seconds=0.3) as b,
    ):
        await together(a, b)
        eve = Stranger(world, 66, network_of(a))
        world.wires.stalled.add(eve.me)
        await eve.meet(a)
        odd = signed(eve.key, {**eve.mouth._fields(), "sequence": 1, "blob": DIGEST})
        eve.say(odd, *eve.mouth.ban())
        await a.until(lambda: eve.me in {banned.peer_id for banned in a.status().banned})
        for one in (a, b):
            await one.rounds(len(one.journal.records) + 3)

        assert b.me in a.daemon._network.connected()
        assert a.me in b.daemon._network.connected()
        return a.status(), b.status(), eve.me


def test_a_digest_with_a_line_break_at_its_end_ends_no_daemon_neither_the_one_that_hears_it_nor_those_behind(world):
    a, b, _ = asyncio.run(attacked(world))

    assert a.refused["bad-message"] == 1
    assert b.refused == {}


def test_were_it_taken_for_a_digest_it_would_be_the_name_of_no_blob(world, monkeypatch):
    def loosely(data):
        opened = open_announcement(data)
        if not isinstance(opened, Refusal) or opened.reason != "bad-message":
            return opened
        fields = msgpack.unpackb(msgpack.unpackb(data)[1])
        known = {*Announcement.__struct_fields__} - {"addresses"}
        return Announcement(**{name: value for name, value in fields.items() if name in known})

    monkeypatch.setattr(envelope, "open_announcement", loosely)

    a, b, eve = asyncio.run(attacked(world))

    assert "bad-message" not in a.refused
    assert eve in {neighbour.peer_id for neighbour in b.neighbours}, "it went on by gossip"
