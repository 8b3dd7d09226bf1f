from __future__ import annotations

import asyncio
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.names import Digest, PeerId
from peerd.net import limits
from peerd.net.attempts import MAX_REPEATS, MAX_RESUMES, FetchPlan
from peerd.net.limits import (
    MAX_CONNECTIONS_PER_ADDRESS,
    MAX_INBOUND,
    MAX_PENDING,
    MAX_PENDING_PER_ADDRESS,
    MAX_RUNS,
    Doors,
    Echoes,
    TrafficLedger,
    TransportEvents,
    transfers_within,
)
from peerd.net.transport import Connected, Disconnected, Failed, Found, Heard, PeerTraffic
from peerd.pacing import TokenBucket
from peerd.wire.envelope import opened
from peerd.wire.messages import Announcement
from peerd.wire.places import place_of

HEARD = Heard(opened(b"message"), "ada")


def read_all(inbox: TransportEvents) -> list[object]:
    async def main() -> list[object]:
        return [event async for event in inbox.read()]

    inbox.close()
    return asyncio.run(main())


def test_what_happens_is_read_in_order_until_closed():
    inbox = TransportEvents()
    happened = [Connected("ada", ""), HEARD, Disconnected("ada")]
    for event in happened:
        inbox.put(event)

    assert read_all(inbox) == happened
    inbox.put(HEARD)
    assert read_all(inbox) == []


def test_a_flood_drops_what_was_heard_and_counts_it():
    inbox = TransportEvents(limit=3)
    for event in [HEARD, Connected("ada", ""), HEARD, HEARD, Found("eve", (), "mdns"), Disconnected("ada")]:
        inbox.put(event)

    assert inbox.dropped == 3
    assert read_all(inbox) == [Connected("ada", ""), HEARD, Disconnected("ada")]


def test_connections_alone_are_bounded_too():
    inbox = TransportEvents(limit=2)
    for n in range(5):
        inbox.put(Connected(str(n), ""))

    assert read_all(inbox) == [Connected("3", ""), Connected("4", "")]


def test_another_thread_wakes_the_reader():
    async def main() -> object:
        inbox = TransportEvents()
        reader = inbox.read()
        threading.Timer(0.01, inbox.put, [HEARD]).start()
        async with asyncio.timeout(10):
            return await anext(reader)

    assert asyncio.run(main()) == HEARD


def test_a_reader_that_went_away_with_its_loop_is_no_trouble():
    inbox = TransportEvents()

    async def main() -> None:
        inbox.put(HEARD)
        await anext(inbox.read())

    asyncio.run(main())
    inbox.put(HEARD)
    inbox.put(HEARD)

    assert read_all(inbox) == [HEARD, HEARD]


def test_a_bucket_lets_a_burst_pass_and_then_its_rate():
    bucket = TokenBucket(rate=2.0, burst=3.0)

    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.5) for _ in range(2)] == [True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


@settings(deadline=None)
@given(st.lists(st.floats(0, 10), max_size=60))
def test_no_bucket_passes_more_than_burst_and_rate(pauses):
    bucket, now, passed = TokenBucket(rate=1.0, burst=5.0), 0.0, 0
    for pause in pauses:
        now += pause
        passed += bucket.take(now)

    assert passed <= 5.0 + now + 1e-6


def test_the_ledger_adds_up_and_forgets_the_longest_silent():
    ledger = TrafficLedger(limit=2)
    for peer in ("ada", "bob", "ada", "eve"):
        ledger.add(peer, bytes_in=1, bytes_out=2)

    assert ledger.snapshot() == {"ada": PeerTraffic(2, 4), "eve": PeerTraffic(1, 2)}


def follow(plan: FetchPlan, answer) -> tuple[list[str], FetchPlan]:
    asked = []
    while plan.turns:
        holder = plan.turns[0].holder
        asked.append(holder)
        failed, started_at, stopped_at = answer(holder)
        plan = plan.after(failed, started_at=started_at, stopped_at=stopped_at)
    return asked, plan


def test_each_holder_is_asked_once_where_they_have_nothing():
    asked, plan = follow(FetchPlan.of(["ada", "bob", "ada"]), lambda _: (Failed("absent"), 0, 0))

    assert asked == ["ada", "bob"]
    assert plan.failure(0).reason == "absent"


def test_who_is_busy_is_asked_again_after_the_others():
    asked, plan = follow(
        FetchPlan.of(["ada", "bob"]), lambda holder: (Failed("busy" if holder == "ada" else "absent"), 0, 0)
    )

    assert asked == ["ada", "bob", *["ada"] * MAX_REPEATS]
    assert plan.failure(7) == Failed("busy", "ada: busy; bob: absent", 7)


def test_a_connection_that_broke_after_bytes_is_resumed_there_first():
    asked, _ = follow(
        FetchPlan.of(["ada", "bob"]),
        lambda holder: (Failed("unreachable"), 0, 10) if holder == "ada" else (Failed("absent"), 10, 10),
    )

    assert asked[: MAX_RESUMES + 1] == ["ada"] * (MAX_RESUMES + 1)
    assert "bob" in asked


def test_a_liar_is_not_asked_again_but_whoever_only_finished_its_work_is():
    fresh, _ = follow(FetchPlan.of(["eve", "bob"]), lambda _: (Failed("corrupt"), 0, 0))
    mixed = FetchPlan.of(["bob"]).after(Failed("corrupt"), started_at=5, stopped_at=0)

    assert fresh == ["eve", "bob"]
    assert [turn.holder for turn in mixed.turns] == ["bob"]


def test_a_liar_that_breaks_off_and_comes_back_is_asked_no_more_once_its_bytes_alone_were_wrong():
    plan = FetchPlan.of(["eve", "bob"])
    plan = plan.after(Failed("unreachable"), started_at=0, stopped_at=5)
    plan = plan.after(Failed("corrupt"), started_at=5, stopped_at=0)

    assert [turn.holder for turn in plan.turns] == ["bob"]


def test_whoever_only_finished_the_work_of_a_liar_is_asked_for_all_of_it():
    plan = FetchPlan.of(["eve", "bob"]).after(Failed("timeout"), started_at=0, stopped_at=5)
    plan = plan.after(Failed("corrupt"), started_at=5, stopped_at=0)

    assert [turn.holder for turn in plan.turns] == ["bob"]
    assert plan.wrong == ()
    again = plan.after(Failed("corrupt"), started_at=0, stopped_at=0)
    assert (again.turns, again.wrong) == ((), (("bob", "corrupt"),))


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["ada", "bob", "eve"]), max_size=5),
    st.lists(
        st.tuples(
            st.sampled_from(["unreachable", "absent", "busy", "timeout", "corrupt", "refused"]), st.integers(0, 3)
        ),
        min_size=1,
    ),
)
def test_every_plan_comes_to_an_end(holders, answers):
    told = iter(answers * 100)

    def answer(_):
        reason, progress = next(told)
        return Failed(reason), 1, 1 + progress

    asked, plan = follow(FetchPlan.of(holders), answer)

    assert len(asked) <= len(set(holders)) * (1 + MAX_RESUMES + MAX_REPEATS)
    assert plan.failure(0).reason in {"absent", *(reason for reason, _ in answers)}


def test_what_was_sent_is_bounded_and_loses_no_byte(monkeypatch):
    monkeypatch.setattr(limits, "MAX_SENT", 3)
    ledger = TrafficLedger(limit=2)
    for number in range(10):
        ledger.add(PeerId(f"peer-{number}"), bytes_out=number + 1, blob=Digest(f"{number:064x}"))

    found = ledger.sent()

    assert len(found) == 4
    assert sum(found.values()) == 55
    assert ledger.sent() == {}


def words(peer, epoch, sequence, time=1):
    fields = {"network": "a" * 64, "round": 1, "codec": "bf16", "size": 1, "blob": "b" * 64}
    return Announcement(peer=peer, epoch=epoch, sequence=sequence, time=time, **fields)


def test_the_newest_words_of_each_run_are_handed_back_to_another_with_that_identity():
    echoes = Echoes()
    for epoch, sequence in [(1, 1), (2, 1), (1, 3), (1, 2)]:
        echoes.heard(words("peer-1", epoch, sequence), b"%d/%d" % (epoch, sequence))

    assert echoes.of("peer-1", besides=2) == b"1/3"
    assert echoes.of("peer-1", besides=1) == b"2/1"
    assert echoes.of("peer-2", besides=1) is None


def test_who_brings_words_of_runs_that_ended_long_ago_has_those_of_a_double_neither_forgotten_nor_hidden():
    echoes = Echoes()
    echoes.heard(words("peer-1", 10, 1, time=1000), b"mine")
    echoes.heard(words("peer-1", 11, 1, time=1001), b"double")
    for old in (3, 9, 5, 7, 1, 8):
        echoes.heard(words("peer-1", old, 99, time=old), b"old")

    assert echoes.of("peer-1", besides=10) == b"double"
    assert echoes.of("peer-1", besides=11) == b"mine"


def test_words_of_few_runs_of_few_peers_are_kept():
    echoes = Echoes(limit=3)
    for number in range(5):
        for epoch in range(9):
            echoes.heard(words(f"peer-{number}", epoch, 1, time=epoch), b"%d" % epoch)

    assert [echoes.of(f"peer-{number}", besides=8) for number in range(5)] == [None, None, b"7", b"7", b"7"]
    assert [len(runs) for runs in echoes._newest.values()] == [MAX_RUNS] * 3


def test_an_ipv6_network_is_one_place_and_a_mapped_address_that_of_ipv4():
    assert place_of("2001:db8:1:2::1") == place_of("2001:db8:1:2:ffff::9") != place_of("2001:db8:1:3::1")
    assert place_of("::ffff:192.0.2.1") == place_of("192.0.2.1") != place_of("192.0.2.2")
    assert place_of("fe80::1%eth0") == place_of("fe80::2")
    assert place_of("?") == "?"


def test_one_address_has_so_many_pending_and_so_many_in_all():
    doors = Doors()
    assert all(doors.knock(n, "192.0.2.1")[0] for n in range(MAX_PENDING_PER_ADDRESS))
    assert doors.knock("more", "192.0.2.1") == (False, None)
    assert doors.knock("other", "192.0.2.2") == (True, None)

    for n in range(MAX_PENDING_PER_ADDRESS):
        doors.enter(n)
    for n in range(MAX_PENDING_PER_ADDRESS, MAX_CONNECTIONS_PER_ADDRESS):
        assert doors.knock(n, "192.0.2.1")[0]
        doors.enter(n)
    assert doors.knock("more", "192.0.2.1") == (False, None)
    doors.leave(0)
    doors.leave(0)
    assert doors.knock("more", "192.0.2.1")[0]
    assert doors.knock("still more", "192.0.2.1") == (False, None)


def test_of_those_that_are_silent_the_oldest_gives_way_and_those_inside_stay():
    doors = Doors()
    for n in range(MAX_PENDING):
        doors.knock(n, f"192.0.2.{n}")
    doors.enter(0)
    doors.knock("fills", "198.51.100.1")

    assert doors.knock("new", "198.51.100.2") == (True, 1)
    assert (doors.inside, doors.pending) == (1, MAX_PENDING)


def test_what_is_full_inside_lets_nobody_in():
    doors = Doors()
    for n in range(MAX_INBOUND):
        doors.knock(n, f"192.0.2.{n}")
        doors.enter(n)

    assert doors.knock("new", "198.51.100.1") == (False, None)
    doors.leave(5)
    assert doors.knock("new", "198.51.100.1") == (True, None)


def test_whoever_brings_more_than_the_burst_rests_for_as_long_as_the_rate_takes():
    bucket = TokenBucket(rate=10.0, burst=20.0)

    assert bucket.pause(100.0, 20.0) == 0.0
    assert bucket.pause(100.0, 5.0) == 0.5
    assert bucket.pause(102.5, 0.0) == 0.0
    bucket.give_back(1000.0)
    assert bucket.pause(102.5, 20.0) == 0.0  # full again, and no fuller than that
    assert bucket.pause(102.5, 5.0) == 0.5


def test_as_many_transfers_share_a_rate_as_keep_moving_at_it():
    assert transfers_within(8, 0) == 8
    assert transfers_within(8, 32 * 1024) == transfers_within(8, 1) == 1
    assert transfers_within(8, 100 * 1024) == 3
    assert transfers_within(8, 10**9) == 8
