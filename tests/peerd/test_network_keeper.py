"""One transport after the other behind one port."""

import asyncio

import pytest

from p2pfinetune.names import Digest
from peerd.core.events import AddressesChanged, MessageRefused, PeerConnected, PeerDisconnected, PeerFound
from peerd.daemon.link import SupervisedTransport
from peerd.errors import TransportError
from peerd.machine.boundary import Failures
from peerd.net.exchanges import Exchange
from peerd.net.transport import Connected, Disconnected, Down, Failed, Found, Heard, Moved, PeerTraffic
from peerd.pacing import Backoff
from peerd.wire.addresses import Address
from peerd.wire.envelope import opened
from peerd.wire.messages import Register, Sample
from tests.support.transport import BOB, FakeTransport

NODE = Address("ip4", "192.0.2.1", 4001, BOB)
EXCHANGE = Exchange(protocol="/test/1", max_request_bytes=9, max_answer_bytes=9, patience_seconds=9.0)


def told_by(*transports, until):
    """Events of a network over these transports, one after the other."""
    left, told, enough = list(transports), [], asyncio.Event()

    async def tell(event):
        told.append(event)
        if len(told) >= until:
            enough.set()

    async def scenario():
        made = [make() for make in left]
        network = SupervisedTransport(
            lambda _: made.pop(0), tell, clock=lambda: 5.0, unix=lambda: 1000.0, pauses=Backoff(first=0.0)
        )
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(network.run(lambda: None))
            await enough.wait()
            await network.stop()
        return network

    return told, asyncio.run(scenario())


def test_what_a_person_announces_is_told_before_what_the_machine_has_and_stays_when_it_moves():
    moves = asyncio.Event()

    async def tell(event):
        assert isinstance(event, AddressesChanged)
        moves.set()

    async def scenario():
        story = FakeTransport(Moved(("/memory/you", "/public/1")))
        network = SupervisedTransport(
            lambda _: story, tell, clock=lambda: 5.0, unix=lambda: 1000.0, announce=("/public/1", "/public/2")
        )
        first = []
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(network.run(lambda: first.append(network.addresses)))
            await moves.wait()
            await network.stop()
        return first, network.addresses

    first, later = asyncio.run(scenario())
    assert first == [("/public/1", "/public/2", "/memory/me")]
    assert later == ("/public/1", "/public/2", "/memory/you")


def test_what_happens_becomes_events():
    story = [Connected(BOB, "/memory/bob"), Found(BOB, ("/memory/bob",), "mdns"), Disconnected(BOB)]
    told, _ = told_by(lambda: FakeTransport(*story), until=3)

    assert told == [
        PeerConnected(at=5.0, peer=BOB, address="/memory/bob"),
        PeerFound(at=5.0, peer=BOB, addresses=("/memory/bob",), how="mdns"),
        PeerDisconnected(at=5.0, peer=BOB),
    ]


@pytest.mark.parametrize(("message", "reason"), [(b"\xc1", "malformed"), (b"x" * 5000, "oversize")])
def test_bytes_that_are_no_announcement_are_held_against_who_passed_them_on(message, reason):
    told, _ = told_by(lambda: FakeTransport(Heard(opened(message), BOB)), until=1)

    assert told == [MessageRefused(at=5.0, peer=BOB, reason=reason)]


def test_a_dead_back_end_is_replaced_its_links_are_gone_and_its_bytes_still_count():
    dies = lambda: FakeTransport(Connected(BOB, "/memory/bob"), Down("crash"))  # noqa: E731
    told, network = told_by(dies, lambda: FakeTransport(Connected(BOB, "/memory/bob")), until=3)

    assert [type(event) for event in told[:3]] == [PeerConnected, PeerDisconnected, PeerConnected]
    assert network.traffic() == {BOB: PeerTraffic(20, 2)}


def test_a_machine_that_moves_is_told_of_and_shown_and_wakes_who_rests():
    woken = []

    async def scenario():
        async def tell(event):
            told.append(event)

        told, network = (
            [],
            SupervisedTransport(lambda _: MovesWhenAsked(), tell, clock=lambda: 5.0, unix=lambda: 1000.0),
        )

        async def rest():
            woken.append(await network.rest(60.0))

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(network.run(lambda: tasks.create_task(rest())))
            while not woken:
                await asyncio.sleep(0)
                network._transport.now.set() if network._transport else None
            shown = network.addresses
            await network.stop()
        return told, shown

    told, shown = asyncio.run(scenario())

    assert woken == [True]
    assert shown == ("/memory/elsewhere",)
    assert told == [AddressesChanged(at=5.0)]


class MovesWhenAsked(FakeTransport):
    """It has other addresses once `now` is set."""

    def __init__(self):
        super().__init__()
        self.now = asyncio.Event()

    async def events(self):
        await self.now.wait()
        yield Moved(("/memory/elsewhere",))
        yield Moved(("/memory/elsewhere",))
        await self.stopped.wait()


def test_who_rests_where_nothing_moves_rests_as_long_as_was_said():
    async def scenario():
        return await SupervisedTransport(
            lambda _: FakeTransport(), lambda event: None, clock=lambda: 0.0, unix=lambda: 0.0
        ).rest(0.001)

    assert asyncio.run(scenario()) is False


def test_a_back_end_that_comes_back_at_other_addresses_is_a_move():
    class Elsewhere(FakeTransport):
        async def start(self):
            return ("/memory/elsewhere",)

    told, _ = told_by(lambda: FakeTransport(Down("crash")), Elsewhere, until=1)

    assert told == [AddressesChanged(at=5.0)]


def test_a_back_end_that_cannot_start_again_is_tried_again():
    dies = lambda: FakeTransport(Connected(BOB, "/memory/bob"), Down("crash"))  # noqa: E731
    told, network = told_by(
        dies, lambda: FakeTransport(fails=True), lambda: FakeTransport(Connected(BOB, "/memory/bob")), until=3
    )

    assert isinstance(told[2], PeerConnected)
    assert network.trouble == ""


def test_a_first_start_that_fails_is_an_error():
    with pytest.raises(ExceptionGroup) as raised:
        told_by(lambda: FakeTransport(fails=True), until=1)

    assert isinstance(raised.value.exceptions[0], TransportError)


def test_each_back_end_answers_what_the_daemon_answers_and_a_failing_answerer_ends_nothing():
    asked = []

    async def answerer(question):
        asked.append(question.request)
        if question.request == b"trap":
            raise LookupError("a mistake of ours")
        return b"answer"

    async def tell(_):
        pass

    async def scenario():
        made = [FakeTransport(Down("crash")), FakeTransport()]
        second, failures = made[1], Failures(lambda: 5.0)
        network = SupervisedTransport(
            lambda _: made.pop(0),
            tell,
            clock=lambda: 5.0,
            unix=lambda: 1.0,
            pauses=Backoff(first=0.0),
            failures=failures,
        )
        network.answer(EXCHANGE, answerer)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(network.run(lambda: None))
            while network._transport is not second:  # noqa: ASYNC110
                await asyncio.sleep(0)
            answers = [await network.ask(BOB, EXCHANGE, request) for request in (b"question", b"trap")]
            registered = await network.register(NODE, Register(network="a" * 64, addresses=()))
            await network.stop()
        return answers, registered, failures.now().counts

    answers, registered, failed = asyncio.run(scenario())

    assert answers == [b"answer", Failed("refused", "no answer")]  # as every transport gives it
    assert asked == [b"question", b"trap"]
    assert registered == Sample(status="ok")
    assert failed == {"answer to /test/1": 1}


def test_without_a_back_end_everything_fails_as_a_value():
    async def scenario():
        network = SupervisedTransport(
            lambda _: FakeTransport(), lambda event: None, clock=lambda: 0.0, unix=lambda: 0.0
        )
        return [
            await network.publish(b""),
            await network.connect(BOB, ()),
            await network.fetch(Digest("0" * 64), 1, (BOB,), 1.0),
            await network.ask(BOB, EXCHANGE, b""),
            await network.register(NODE, Register(network="a" * 64, addresses=())),
        ], network.connected()

    failures, connected = asyncio.run(scenario())

    assert all(isinstance(failure, Failed) for failure in failures)
    assert connected == frozenset()


class Ports(FakeTransport):
    """Gets a port of its own where it is told none."""

    def __init__(self, *story, listening=(), **options):
        super().__init__(*story, **options)
        self.listening = listening or ("/ip4/127.0.0.1/tcp/4711",)


def lived_through(stories, pauses):
    """How long was waited between back ends, where each was to listen, and the network afterwards."""
    waited, asked, left = [], [], list(stories)

    async def scenario():
        enough = asyncio.Event()

        def make(listening):
            asked.append(listening)
            if len(left) == 1:
                enough.set()
            story, options = left.pop(0)
            return Ports(*story, listening=listening, **options)

        async def sleep(seconds):
            waited.append(seconds)
            await really(0)

        async def tell(event):
            pass

        really = asyncio.sleep
        network = SupervisedTransport(make, tell, clock=lambda: 5.0, unix=lambda: 1000.0, pauses=pauses, sleep=sleep)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(network.run(lambda: None))
            await enough.wait()
            await really(0)
            await network.stop()
        return network

    return waited, asked, asyncio.run(scenario())


def test_a_network_that_a_stranger_ended_is_back_within_a_second_however_often_and_that_is_counted():
    ended = ([Down("what was said", of_a_stranger=True)], {})
    waited, _, network = lived_through([ended] * 6 + [([], {})], Backoff(first=4.0))

    assert waited == [1.0] * 6  # by the clock of this test none of them lived at all
    assert network.turned_away() == {"network-ended": 6}


def test_a_network_that_the_machine_ended_is_back_after_growing_pauses_whatever_strangers_did_between():
    machine, stranger = ([Down("no memory")], {}), ([Down("what was said", of_a_stranger=True)], {})
    waited, _, _ = lived_through([machine, stranger, stranger, machine, ([], {})], Backoff(first=4.0))

    assert waited == [4.0, 1.0, 1.0, 8.0]


def test_a_back_end_listens_where_the_one_before_it_did_unless_that_port_is_taken():
    ended = ([Down("crash")], {})
    _, asked, _ = lived_through([ended, ended, ([], {"fails": True}), ([], {})], Backoff(first=0.0))

    mine = ("/ip4/127.0.0.1/tcp/4711",)
    assert asked == [(), mine, mine, ()]
