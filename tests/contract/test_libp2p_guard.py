"""Whatever a stranger makes fail ends with that stranger's own connection, and is counted."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import threading
from collections import Counter
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm
from libp2p.peer.peerstore import PeerStore
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub

from bootstrap import service
from peerd.errors import TransportError
from peerd.net.libp2p import echo, guard, host, mdns, node
from peerd.net.libp2p.bridge import Bridge
from peerd.net.libp2p.guard import TASKS, Guard, attempt
from peerd.net.libp2p.muxer import GuardedYamux
from peerd.net.libp2p.transport import of_the_machine
from peerd.net.transport import Disconnected, Down, Failed
from tests.attackers.stock import attacking, honest_peer_gets_its_blob, until

ROOT = Path(__file__).parents[2]
NO_UTF8 = b"\x13/multistream/1.0.0\n\x04\xff\xfe\xfd\n"


def answers(nonsense: bytes):
    """Of a stream that the victim opens, before anything is agreed on it."""

    async def answer(stream) -> None:
        await stream.write(nonsense)

    return answer


@pytest.mark.parametrize("nonsense", [b"\x04\xff\xfe\xfd\n", NO_UTF8], ids=["instead of a hello", "instead of a name"])
@pytest.mark.parametrize("way", ["inbound", "outbound"])
def test_an_answer_that_is_no_utf8_costs_its_sender_the_connection_and_nobody_else(play_libp2p, nonsense, way):
    async def scenario(world):
        victim, neighbour = await world.linked(2)
        async with attacking() as attacker:
            attacker.host.get_network().set_stream_handler(answers(nonsense))
            if way == "inbound":
                await attacker.dial(victim)
            else:
                outcome = await victim.transport.connect(attacker.id, attacker.addresses())
                assert isinstance(outcome, Failed)
            await until(lambda: victim.transport.counts().get("greetings-broken", 0) >= 1)
            await until(lambda: not attacker.host.get_network().get_connections())

            assert victim.transport.connected() == {neighbour.id}
            assert not victim.saw(Down)
            await honest_peer_gets_its_blob(world, victim)

    play_libp2p(scenario)


class Mine:
    """What is laid in the way of a function: raises the first time that one thread, or any, steps on it."""

    def __init__(self, monkeypatch, owner, name: str, thread=None) -> None:
        self.stepped_on, original = 0, getattr(owner, name)

        def stepped(*arguments, **options):
            if not self.stepped_on and thread in {None, threading.current_thread()}:
                self.stepped_on += 1
                raise RuntimeError(f"nobody foresaw this in {name}")
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, stepped)


AT_THE_STRANGER = {
    "inbound": (Swarm, "upgrade_inbound_raw_conn"),
    "muxer": (GuardedYamux, "handle_incoming"),
    "connection": (SwarmConn, "_handle_new_streams"),
    "swarm": (Swarm, "_prune_in_background"),
    "stream": (Multiselect, "handshake"),
    "greeting": (node.Libp2pNode, "_greet"),
    "gossip": (Pubsub, "_handle_new_peer_with_retry"),
    "gossip-goodbye": (Pubsub, "_forget_all_subscriptions"),
}
LASTING = {
    "heartbeat": (GossipSub, "mesh_heartbeat"),
    "gossip-check": (node.Libp2pNode, "_keep_gossip"),
    "echo": (echo.Echo, "keep_asking"),
    "gossip-drain": (node, "_drain"),
    "memory": (PeerStore, "start_cleanup_task"),
    "addresses": (node, "reachable_at"),
    "mdns": (mdns, "announce_and_listen"),
}
ELSEWHERE = {"rumour", "show-out"}


def test_each_task_of_the_list_is_made_to_fail_here():
    assert {*AT_THE_STRANGER, *LASTING, *ELSEWHERE} == TASKS.keys()


@pytest.mark.parametrize("task", AT_THE_STRANGER)
def test_a_task_about_a_stranger_that_fails_is_counted_and_all_others_stay_connected(play_libp2p, monkeypatch, task):
    async def scenario(world):
        victim, neighbour = await world.linked(2)
        counts = victim.transport.counts
        before = counts().get(TASKS[task], 0)
        async with attacking() as attacker:
            own = victim.transport._node._host
            own.get_network()._prune_debounce = 0.0
            owner, name = AT_THE_STRANGER[task]
            if owner is Multiselect:  # that of streams; connections have another
                owner = own.multiselect
            mine = Mine(monkeypatch, owner, name, victim.transport._bridge._thread)
            with contextlib.suppress(Exception):  # what its own end makes of it
                async with asyncio.timeout(2.0):
                    await attacker.dial(victim)
            if task == "gossip-goodbye":
                await until(lambda: attacker.id in victim.transport.connected())
                await attacker.do(host.close, attacker.host)
            await until(lambda: counts().get(TASKS[task], 0) > before)

            if task != "swarm":  # that one was about nobody
                await until(lambda: attacker.id not in victim.transport.connected())
            assert mine.stepped_on == 1
            assert neighbour.id in victim.transport.connected()
            assert not victim.saw(Down)
            assert not neighbour.saw(Disconnected)
        await honest_peer_gets_its_blob(world, victim)

    play_libp2p(scenario)


@pytest.mark.parametrize("task", LASTING)
def test_a_task_that_lasts_as_long_as_the_node_is_started_again_where_it_fails(play_libp2p, monkeypatch, task):
    monkeypatch.setattr(guard, "AGAIN_SECONDS", 0.01)
    mine = Mine(monkeypatch, *LASTING[task])

    async def scenario(world):
        victim = await world.peer(lan=task == "mdns")
        await until(lambda: victim.transport.counts().get(TASKS[task]) == 1)

        assert mine.stepped_on == 1
        assert not victim.saw(Down)
        await honest_peer_gets_its_blob(world, victim)

    play_libp2p(scenario)


def test_a_rumour_that_cannot_be_read_does_not_end_the_thread_that_listens():
    counts = Counter[str]()
    listener = object.__new__(mdns._Listener)
    listener.service_name, listener.peerstore = "me", mdns._Rumours("me", print, Guard(counted(counts)))

    listener.add_service(None, None, "somebody")  # it lacks whatever it would need

    assert counts == {TASKS["rumour"]: 1}


def test_the_bootstrap_node_shows_out_whom_it_can_where_one_cannot_be_closed(autojump_clock):
    counts, closed = Counter[str](), []

    class Connection:
        def __init__(self, number):
            self.number = number

        async def close(self):
            if self.number == 1:
                raise RuntimeError("nobody foresaw this")
            closed.append(self.number)

    connections = [Connection(number) for number in range(3)]

    class Host:
        def get_network(self):
            return self

        def get_connections(self):
            return connections

    async def main():
        with trio.move_on_after(2.5 * service.IDLE_SECONDS):
            await service._show_out(Host(), Guard(counted(counts)))

    trio.run(main, clock=autojump_clock)
    assert sorted(closed) == [0, 2]
    assert counts == {TASKS["show-out"]: 1}


def counted(counts: Counter[str]):
    return lambda what: counts.update([what])


@pytest.fixture
def autojump_clock():
    return trio.testing.MockClock(autojump_threshold=0)


def raised_beside_a_cancellation(inner):
    """What a nursery makes of a task that fails while all are being cancelled."""

    async def fail():
        try:
            await trio.sleep_forever()
        finally:
            raise inner

    async def body():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
            await trio.sleep_forever()

    return body


def test_a_failure_beside_a_cancellation_is_taken_out_of_the_group_and_the_cancellation_passes():
    async def main():
        with trio.CancelScope() as scope:
            scope.cancel()
            await attempt(raised_beside_a_cancellation(ExceptionGroup("two", [ValueError("a"), OSError("b")])))
        assert scope.cancelled_caught

    trio.run(main)


@pytest.mark.parametrize("passing", [KeyboardInterrupt(), SystemExit(3)])
def test_what_ends_the_program_passes_the_guard(passing):
    async def fail():
        raise BaseExceptionGroup("both", [ValueError("a stranger's"), passing])

    async def main():
        await Guard(lambda _: None).run("stream", None, fail)

    with pytest.raises(BaseExceptionGroup) as raised:
        trio.run(main)
    assert raised.group_contains(type(passing))
    assert not raised.group_contains(ValueError)


def test_a_call_that_fails_while_it_is_given_up_does_not_end_the_thread():
    async def main():
        async def serve(stopping, *, task_status):
            task_status.started()
            await stopping.wait()

        bridge = Bridge(serve, name="test")
        await bridge.start()
        call = asyncio.create_task(bridge.call(raised_beside_a_cancellation(ValueError("a stranger's"))))
        await asyncio.sleep(0.05)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        assert await bridge.call(trio.sleep, 0) is None
        assert await bridge.stop(4.0)

    asyncio.run(main())


def test_every_task_that_is_started_in_the_network_stands_behind_the_guard():
    """By name: `start_soon` gets the guard's `run` or `keep`, or what is listed here with a reason."""
    others = {
        "peerd/net/libp2p/bridge.py: task",  # holds its own failure back, as a value for the caller
    }
    found = set()
    for folder in ("peerd/net/libp2p", "bootstrap"):
        for path in sorted((ROOT / folder).glob("*.py")):
            for call in ast.walk(ast.parse(path.read_text())):
                if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(("start_soon", "spawn_system_task")):
                    found.add(f"{path.relative_to(ROOT)}: {ast.unparse(call.args[0])}")

    bare = {line for line in found if not line.endswith(("guard.run", "guard.keep"))}
    assert bare == others


def test_a_node_that_a_stranger_ended_says_so_and_another_listens_on_the_same_port(play_libp2p):
    async def scenario(world):
        victim = await world.peer()

        async def fall() -> None:
            victim.transport._node._nursery.start_soon(answers(b""), None)  # what stands behind no guard

        await victim.transport._bridge.call(fall)
        await victim.until(Down)
        await victim.transport.stop()
        again = await world.peer(key=victim.key, listen=victim.transport.listening)

        (down,) = (event for event in victim.events if isinstance(event, Down))
        assert down.of_a_stranger
        assert again.addresses == victim.addresses

    play_libp2p(scenario)


def test_what_the_system_refuses_is_not_put_down_to_a_stranger():
    assert of_the_machine(OSError(28, "No space left on device"))
    assert of_the_machine(ExceptionGroup("two", [MemoryError(), TransportError("no")]))
    assert not of_the_machine(ExceptionGroup("two", [OSError(), UnicodeDecodeError("utf-8", b"", 0, 1, "no")]))
