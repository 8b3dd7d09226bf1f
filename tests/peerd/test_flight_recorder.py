"""The flight recorder: what happened to a core is written down and runs again to the same state."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pfinetune.names import Digest, PeerId, Round
from peerd.core import fetches
from peerd.core.dice import Drawn, key_of, roll
from peerd.core.events import (
    AnnouncementHeard,
    AnyEvent,
    FetchFailed,
    PeerConnected,
    PeerFound,
    StopAsked,
    Ticked,
    Trained,
    WorkerDied,
    WorkerStarted,
)
from peerd.core.node import Node, begin, step
from peerd.core.settings import Settings
from peerd.daemon import recorder as module
from peerd.daemon.recorder import FlightRecorder, Ring, records_at_signal
from peerd.daemon.shell import Shell
from peerd.machine.boundary import Failures
from peerd.testing import replay
from peerd.testing.replay import NotARecord, decoded, encoded, fingerprint, replayed, story
from peerd.wire.messages import Announcement

ME = PeerId("a-peer-me")
NETWORK = Digest("a" * 64)
SECRET = "nobody else can know it"


def begun() -> Node:
    return begin(Settings(warmup_rounds=0, max_neighbours=2), ME, 100.0, secret=SECRET)[0]


def heard(peer: str, at: float, number: int = 1) -> AnnouncementHeard:
    said = Announcement(
        network=NETWORK, peer=PeerId(peer), name="", round=Round(number), epoch=1, sequence=number,
        blob=Digest(peer.encode().hex().rjust(40, "0")[:40] + f"{number:024x}"), size=500, codec="bf16",
        addresses=(f"/ip4/10.0.0.{number}/tcp/4001/p2p/{peer}",), time=1,
    )  # fmt: skip
    return AnnouncementHeard(at=at, announcement=said, via=PeerId(peer))


def life(rounds: int = 30) -> list[AnyEvent]:
    """Strangers come, more than can be wanted; the worker starts, trains, and dies once."""
    started = {"network": NETWORK, "device": "cpu", "max_blob_bytes": {"bf16": 1000}, "trained": False}
    happened: list[AnyEvent] = [WorkerStarted(at=101.0, round=Round(1), best_guard=None, **started)]
    for number in range(1, rounds):
        peer, at = f"a-peer-{number % 7}", 101.0 + number
        happened += [
            PeerFound(at=at, peer=PeerId(peer), addresses=(f"/ip4/10.0.0.{number % 7}/tcp/1",), how="mdns"),
            PeerConnected(at=at, peer=PeerId(peer), address=""),
            heard(peer, at, number),
            Ticked(at=at + 0.5, connected=frozenset({PeerId(peer)})),
        ]
    happened.append(Trained(at=200.0, round=Round(1), steps=20))
    happened.append(WorkerDied(at=201.0, reason="killed: cannot read '/mnt/ada/My notes/it's a diary.txt' twice"))
    return happened


def lived(ring: Ring, events: list[AnyEvent]) -> Node:
    node = begun()
    for event in events:
        ring.add(node, event)
        node, _ = step(node, event)
    return node


def test_a_record_runs_again_to_the_same_state_without_the_key_of_the_lots() -> None:
    ring = Ring(begun(), "1.0")
    ended = lived(ring, life())
    data = encoded(ring.record("a test")())

    record = decoded(data)
    *_, last = replayed(record)

    assert fingerprint(last.node) == record.ended == fingerprint(ended)
    assert key_of(SECRET) not in data
    assert record.lots  # they mattered
    assert not any(turn.broken for turn in replayed(record))


def test_a_record_holds_no_path_of_the_user() -> None:
    ring = Ring(begun(), "1.0")
    lived(ring, life())

    data = encoded(ring.record("a test")())

    assert not any(part in data for part in (b"ada", b"notes", b"diary"))
    assert "killed: cannot read …".encode() in data
    assert b"/ip4/10.0.0.3/tcp/1" in data


def test_an_exception_of_the_core_is_raised_again_at_the_same_event(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(node: Node, event: Any) -> Any:
        raise ZeroDivisionError("never seen before")

    monkeypatch.setattr(fetches, "failed", breaks)
    happened = [*life(4), FetchFailed(at=300.0, peer=PeerId("a-peer-1"), digest=Digest("b" * 64), reason="timeout")]
    ring = Ring(begun(), "1.0")
    node = begun()
    for event in happened:
        ring.add(node, event)
        with contextlib.suppress(ZeroDivisionError):
            node, _ = step(node, event)

    turns = list(replayed(decoded(encoded(ring.record("the core raised")()))))

    assert [type(turn.error).__name__ for turn in turns if turn.error is not None] == ["ZeroDivisionError"]
    assert turns[-1].event == happened[-1]


def test_the_ring_keeps_at_least_one_stretch_and_at_most_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVENTS", 10)
    ring, node, sizes = Ring(begun(), "1.0"), begun(), []
    for number in range(95):
        event = Ticked(at=101.0 + number)
        ring.add(node, event)
        node, _ = step(node, event)
        sizes.append(ring.events)

    assert sizes[:10] == list(range(1, 11))
    assert {10 < size <= 20 for size in sizes[10:]} == {True}
    *_, last = replayed(ring.record("a test")())
    assert fingerprint(last.node) == fingerprint(node)


def test_a_stretch_of_heavy_events_is_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WEIGHT", 5000)
    ring, node = Ring(begun(), "1.0"), begun()
    many = tuple(f"/ip4/10.0.0.{n}/tcp/1" + "0" * 200 for n in range(10))
    for number in range(50):
        ring.add(node, PeerFound(at=101.0 + number, peer=PeerId("p"), addresses=many, how="mdns"))

    assert ring.events <= 6


def test_a_story_tells_what_happened_to_a_peer_and_what_was_done_about_it() -> None:
    ring = Ring(begun(), "1.0")
    lived(ring, life(6))

    lines = list(story(replayed(ring.record("a test")()), "a-peer-3"))

    assert any("PeerFound" in line for line in lines)
    assert any("-> Fetch" in line and "a-peer-3" in line for line in lines)
    assert not any("a-peer-4" in line for line in lines if "Fetch" in line)


def test_a_story_tells_of_a_blob_by_the_end_of_its_digest() -> None:
    ring = Ring(begun(), "1.0")
    lived(ring, life(6))
    blob = heard("a-peer-3", 0.0, 3).announcement.blob

    assert any("AnnouncementHeard" in line for line in story(replayed(ring.record("")()), blob[-12:]))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"\x81\xa7version\x02", msgspec.msgpack.encode([1, 2])])
def test_bytes_that_are_no_record_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(NotARecord):
        decoded(data)


def test_a_lot_that_was_never_drawn_is_not_invented() -> None:
    drawn = Drawn({}, key_of(SECRET))
    roll(drawn, "peer", "one")

    assert roll(Drawn(drawn.answers), "peer", "one") == roll(key_of(SECRET), "peer", "one")
    with pytest.raises(KeyError):
        roll(Drawn(drawn.answers), "peer", "two")


def test_what_a_stranger_makes_an_event_keep_is_weighed_in_full() -> None:
    odd = PeerFound(at=1.0, peer=PeerId("p"), addresses=("\U0001f600" * 100,) * 8, how="mdns")
    many = Ticked(at=1.0, connected=frozenset(PeerId(f"peer-{number}") for number in range(128)))

    assert module.weight(odd) > 8 * 400
    assert module.weight(many) > 8000


def test_a_name_of_a_peer_moves_no_cursor_of_who_replays_its_record(capsys: pytest.CaptureFixture[str]) -> None:
    ring = Ring(begun(), "1.0")
    ring.add(begun(), PeerFound(at=1.0, peer=PeerId("a-peer-1"), addresses=("\x1b[2J",), how="\x1b]0;owned\x07"))

    replay.told(ring.record("\x1b[2J")(), "a-peer-1")

    assert "\x1b" not in capsys.readouterr().out


def recorder(folder: Path, clock: list[float]) -> FlightRecorder:
    return FlightRecorder(begun(), "1.0", folder, lambda: clock[0], Failures(lambda: clock[0]))


async def _written(flight: FlightRecorder, folder: Path, count: int) -> list[Path]:
    task = asyncio.create_task(flight.run())
    for _ in range(500):
        await asyncio.sleep(0.01)
        if len(found := sorted(folder.glob("*.record"))) >= count:  # noqa: ASYNC240
            break
    task.cancel()
    return found


def test_the_core_that_raises_leaves_a_record_in_the_home_and_a_flood_of_it_leaves_no_more(tmp_path: Path) -> None:
    clock = [0.0]
    flight = recorder(tmp_path / "records", clock)

    async def scenario() -> list[Path]:
        for _ in range(100):
            flight.raised(Ticked(at=1.0), "ZeroDivisionError")
        found = await _written(flight, tmp_path / "records", 1)
        clock[0] = 1.0
        flight.raised(Ticked(at=1.0), "ZeroDivisionError")
        return [*found, *(await asyncio.wait_for(_written(flight, tmp_path / "records", 1), 10))]

    found = asyncio.run(scenario())

    assert [path.name for path in found] == ["000001.record"] * 2
    assert decoded(found[0].read_bytes()).why == "the core raised at Ticked: ZeroDivisionError"
    assert found[0].stat().st_mode & 0o777 == 0o600


def test_the_end_of_a_daemon_whose_core_raised_waits_for_the_record(tmp_path: Path) -> None:
    flight = recorder(tmp_path / "records", [0.0])

    async def scenario() -> bool:
        task = asyncio.create_task(flight.run())
        flight.raised(Ticked(at=1.0), "ZeroDivisionError")
        await flight.settled()
        task.cancel()
        return (tmp_path / "records" / "000001.record").exists()

    assert asyncio.run(scenario())


def test_one_that_was_asked_for_does_not_silence_one_that_nobody_asked_for(tmp_path: Path) -> None:
    flight = recorder(tmp_path / "records", [0.0])

    async def scenario() -> str:
        flight.want("SIGUSR1", asked=True)
        flight.raised(Ticked(at=1.0), "ZeroDivisionError")
        return flight._why

    assert asyncio.run(scenario()).startswith("the core raised")


def test_of_many_records_the_last_few_are_kept(tmp_path: Path) -> None:
    flight = recorder(tmp_path / "records", [0.0])

    async def scenario() -> None:
        task = asyncio.create_task(flight.run())
        for number in range(1, 8):
            flight.want("asked", asked=True)
            while not (tmp_path / "records" / f"{number:06}.record").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 20))

    assert sorted(path.name for path in (tmp_path / "records").iterdir()) == [f"{n:06}.record" for n in (4, 5, 6, 7)]


def test_sigusr1_asks_for_a_record_and_ends_nothing(tmp_path: Path) -> None:
    flight = recorder(tmp_path / "records", [0.0])

    async def scenario() -> list[Path]:
        records_at_signal(flight)
        os.kill(os.getpid(), signal.SIGUSR1)
        try:
            return await _written(flight, tmp_path / "records", 1)
        finally:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    assert len(asyncio.run(scenario())) == 1


def test_a_broken_invariant_is_counted_and_recorded_while_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "broken", lambda *_: ("a taken announcement could be replayed",))
    flight = recorder(tmp_path, [0.0])
    flight.took(begun(), Ticked(at=1.0), begun(), [])
    quiet = flight._failures.now()
    flight.checks = True
    flight.took(begun(), Ticked(at=1.0), begun(), [])

    assert quiet.counts == {}
    assert flight._failures.now().counts == {"invariant at Ticked": 1}
    assert "could be replayed" in flight._why


def test_a_witness_that_fails_changes_nothing_for_the_core() -> None:
    class Fails:
        def takes(self, *_: Any) -> None:
            raise MemoryError

        took = raised = takes

    async def nobody(_: Any) -> None:
        return None

    async def scenario() -> tuple[str, int]:
        shell = Shell(begin(Settings(), ME, 0.0), nobody, lambda: 2.0, witness=Fails())
        await shell.tell(StopAsked(at=1.0, reason="enough"))
        reason = await shell.run()
        return reason, shell._failures.now().counts["witness of the core"]

    assert asyncio.run(scenario()) == ("enough", 2)


def test_the_program_that_runs_a_record_again_says_whether_it_came_to_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ring = Ring(begun(), "1.0")
    lived(ring, life(6))
    record = ring.record("a test")()
    (tmp_path / "good.record").write_bytes(encoded(record))
    (tmp_path / "other.record").write_bytes(encoded(msgspec.structs.replace(record, ended="0" * 32)))
    (tmp_path / "bad.record").write_bytes(b"no record")

    codes = [
        replay.main([str(tmp_path / f"{name}.record"), "--story", "a-peer-3"]) for name in ("good", "other", "bad")
    ]

    assert codes == [0, 1, 2]
    said = capsys.readouterr()
    assert "the same state as in the daemon" in said.out
    assert "AnnouncementHeard" in said.out
    assert "no record of a daemon's core" in said.err
