"""What every transport does with questions: one that is bounded, one answer that is, or a reason."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from p2pfinetune.names import PeerId, Refusal
from peerd.net import exchanges, limits
from peerd.net.exchanges import Asked, Exchange
from peerd.net.rendezvous import RENDEZVOUS
from peerd.net.transport import Failed
from peerd.wire.addresses import Address, parse_address
from peerd.wire.framing import pack, unpack
from peerd.wire.messages import PeerRecord, Register, Sample
from peerd.wire.traits import Traits

TURN = Exchange(protocol="/test/turn/1", max_request_bytes=1000, max_answer_bytes=2000, patience_seconds=10.0)
OTHER_NETWORK = "b" * 64


def within(**changes: Any) -> Exchange:
    return msgspec.structs.replace(TURN, **changes)


class Turned:
    """Answers with what it is asked, turned around; keeps who asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    async def __call__(self, asked: Asked) -> bytes | None:
        self.asked.append(asked)
        return asked.request[::-1] if isinstance(asked.request, bytes) else None


def test_a_question_is_answered_and_both_count_its_bytes(play):
    async def scenario(world):
        answerer = Turned()
        one, other = await world.peer(), await world.peer(answers=[(TURN, answerer)])
        await one.connect(other)
        await other.until(type(await one.connect(other)))
        before = one.transport.traffic().get(other.id)

        answers = [await one.transport.ask(other.id, TURN, asked) for asked in (b"abc", b"", bytes(1000))]

        assert answers == [b"cba", b"", bytes(1000)]
        assert [(asked.peer, asked.request) for asked in answerer.asked][:2] == [(one.id, b"abc"), (one.id, b"")]
        assert all(asked.place for asked in answerer.asked)
        bytes_in = before.bytes_in if before else 0
        assert one.transport.traffic()[other.id].bytes_in - bytes_in >= 1003
        assert other.transport.traffic()[one.id].bytes_out >= 1003

    play(scenario)


def test_what_is_larger_than_agreed_is_not_read_and_nobody_raises(play):
    async def scenario(world):
        generous, answerer = within(max_request_bytes=50_000, max_answer_bytes=50_000), Turned()
        one, other = await world.peer(), await world.peer(answers=[(TURN, answerer)])
        await one.connect(other)
        await other.until(type(await one.connect(other)))

        too_long_to_send = await one.transport.ask(other.id, TURN, bytes(1001))
        too_long_for_it = await one.transport.ask(other.id, generous, bytes(1001))
        too_long_for_me = await one.transport.ask(other.id, within(max_answer_bytes=9), bytes(10))

        assert too_long_to_send.reason == "oversize"
        assert too_long_for_it.reason == "busy"  # it may answer such a question, and has no answer
        assert isinstance(answerer.asked[0].request, Refusal)
        assert too_long_for_me.reason == "oversize"
        assert other.transport.counts()[exchanges.OVERSIZE] == 1
        assert one.transport.connected() == {other.id}

    play(scenario)


def test_where_nobody_answers_there_is_a_reason(play):
    async def scenario(world):
        async def never(_: Asked) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

        async def broken(_: Asked) -> bytes:
            raise LookupError("a mistake of ours")

        async def talkative(_: Asked) -> bytes:
            return bytes(2001)

        slow, raising, long = (within(protocol=f"/test/{name}/1") for name in ("slow", "raising", "long"))
        in_haste = msgspec.structs.replace(slow, patience_seconds=0.3)
        answers = [(slow, never), (raising, broken), (long, talkative)]
        one, other, far = await world.peer(), await world.peer(answers=answers), await world.peer()
        await one.connect(other)
        await other.until(type(await one.connect(other)))

        unspoken = await one.transport.ask(other.id, TURN, b"")
        unconnected = await one.transport.ask(far.id, TURN, b"")
        late = await one.transport.ask(other.id, in_haste, b"")
        mistaken = [await one.transport.ask(other.id, exchange, b"") for exchange in (raising, long)]

        assert [failed.reason for failed in (unspoken, unconnected)] == ["refused", "unreachable"]
        assert late.reason == "timeout"
        assert [failed.reason for failed in mistaken] == ["busy", "busy"]
        assert other.transport.counts()[exchanges.FAILED] == 2
        assert one.transport.connected() == {other.id}  # a mistake of the one is no offence of the other

    play(scenario)


def test_so_many_are_answered_at_one_time_and_the_rest_hear_that_it_is_busy(play, monkeypatch):
    monkeypatch.setattr(limits, "UPLOAD_PATIENCE_SECONDS", 0.2)  # that one waits for its turn

    async def scenario(world):
        begun, go = asyncio.Event(), asyncio.Event()

        async def answerer(asked: Asked) -> bytes:
            begun.set()
            await go.wait()
            return b"at last"

        one_at_a_time = within(at_once=1, patience_seconds=20.0)
        asked_of = await world.peer(answers=[(one_at_a_time, answerer)])
        first, second = await world.peer(), await world.peer()
        for peer in (first, second):
            await peer.connect(asked_of)
        async with asyncio.TaskGroup() as tasks:
            served = tasks.create_task(first.transport.ask(asked_of.id, one_at_a_time, b""))
            await begun.wait()
            refused = await second.transport.ask(asked_of.id, one_at_a_time, b"")
            go.set()

        assert served.result() == b"at last"
        assert refused.reason == "busy"
        assert asked_of.transport.counts()[exchanges.UNSERVED] == 1

    play(scenario)


def test_after_stopping_a_question_fails_and_nothing_raises(play):
    async def scenario(world):
        one, other = await world.linked(2)
        await one.transport.stop()

        outcomes = [
            await one.transport.ask(other.id, TURN, b""),
            await one.transport.register(rendezvous_address(other), Register(network="a" * 64, addresses=())),
        ]

        assert [type(outcome) for outcome in outcomes] == [Failed, Failed]

    play(scenario)


def rendezvous_address(peer: Any) -> Address:
    """Of a peer, in whatever world."""
    found = parse_address(peer.addresses[0])
    return found if isinstance(found, Address) else Address("ip4", "192.0.2.1", 1, peer.id)


def test_a_rendezvous_node_is_asked_and_is_no_neighbour(play):
    record = PeerRecord(peer=PeerId("12D3KooWsomebody"), addresses=("/ip4/192.0.2.7/tcp/1",))
    questions: list[Any] = []

    async def answerer(asked: Asked) -> bytes:
        assert isinstance(asked.request, bytes)
        questions.append((asked.peer, unpack(asked.request, Register, max_bytes=4096)))
        return pack(Sample(status="ok", peers=(record,), expires_seconds=60))

    async def scenario(world):
        traits = Traits(group="writers", model="a" * 64)
        one = await world.peer(traits=traits)
        node = await world.peer(OTHER_NETWORK, answers=[(RENDEZVOUS, answerer)])
        silent = await world.peer(OTHER_NETWORK)
        question = Register(network="a" * 64, addresses=("/ip4/192.0.2.9/tcp/1",))

        answer = await one.transport.register(rendezvous_address(node), question)
        none = await one.transport.register(rendezvous_address(silent), question)
        nameless = await one.transport.register(Address("ip4", "192.0.2.1", 1), question)

        assert answer == Sample(status="ok", peers=(record,), expires_seconds=60)
        assert questions == [(one.id, msgspec.structs.replace(question, why=traits.told_by(node.id)))]
        assert (none.reason, none.address) == ("refused", str(rendezvous_address(silent)))
        assert nameless.reason == "refused"
        assert one.transport.connected() == frozenset()

    play(scenario)


def test_questions_and_answers_of_every_length_arrive_whole(play):
    """Short ones are read before their turn comes, long ones after; both in many pieces."""
    large, said = within(max_request_bytes=2**20, max_answer_bytes=2**20), bytes(range(256)) * 1200

    async def scenario(world):
        one, other = await world.peer(), await world.peer(answers=[(large, Turned())])
        await one.connect(other)
        await other.until(type(await one.connect(other)))

        for length in (0, 1, exchanges.EARLY_BYTES, exchanges.EARLY_BYTES + 1, len(said)):
            assert await one.transport.ask(other.id, large, said[:length]) == said[:length][::-1]

    play(scenario)
