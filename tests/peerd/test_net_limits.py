from __future__ import annotations

import asyncio
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.names import Digest, PeerId
from peerd.net import limits
from peerd.net.attempts import MAX_REPEATS, MAX_RESUMES, Plan
from peerd.net.limits import Happenings, TokenBucket, TrafficLedger
from peerd.net.transport import Connected, Disconnected, Failed, Found, Heard, PeerTraffic

HEARD = Heard(b"message", "ada")


def read_all(inbox: Happenings) -> list[object]:
    async def main() -> list[object]:
        return [happening async for happening in inbox.read()]

    inbox.close()
    return asyncio.run(main())


def test_what_happens_is_read_in_order_until_closed():
    inbox = Happenings()
    happened = [Connected("ada", ""), HEARD, Disconnected("ada")]
    for happening in happened:
        inbox.put(happening)

    assert read_all(inbox) == happened
    inbox.put(HEARD)
    assert read_all(inbox) == []


def test_a_flood_drops_what_was_heard_and_counts_it():
    inbox = Happenings(limit=3)
    for happening in [HEARD, Connected("ada", ""), HEARD, HEARD, Found("eve", (), "mdns"), Disconnected("ada")]:
        inbox.put(happening)

    assert inbox.dropped == 3
    assert read_all(inbox) == [Connected("ada", ""), HEARD, Disconnected("ada")]


def test_connections_alone_are_bounded_too():
    inbox = Happenings(limit=2)
    for n in range(5):
        inbox.put(Connected(str(n), ""))

    assert read_all(inbox) == [Connected("3", ""), Connected("4", "")]


def test_another_thread_wakes_the_reader():
    async def main() -> object:
        inbox = Happenings()
        reader = inbox.read()
        threading.Timer(0.01, inbox.put, [HEARD]).start()
        async with asyncio.timeout(10):
            return await anext(reader)

    assert asyncio.run(main()) == HEARD


def test_a_reader_that_went_away_with_its_loop_is_no_trouble():
    inbox = Happenings()

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


def follow(plan: Plan, answer) -> tuple[list[str], Plan]:
    asked = []
    while plan.turns:
        holder = plan.turns[0].holder
        asked.append(holder)
        failed, started_at, stopped_at = answer(holder)
        plan = plan.after(failed, started_at=started_at, stopped_at=stopped_at)
    return asked, plan


def test_each_holder_is_asked_once_where_they_have_nothing():
    asked, plan = follow(Plan.of(["ada", "bob", "ada"]), lambda _: (Failed("absent"), 0, 0))

    assert asked == ["ada", "bob"]
    assert plan.failure(0).reason == "absent"


def test_who_is_busy_is_asked_again_after_the_others():
    asked, plan = follow(
        Plan.of(["ada", "bob"]), lambda holder: (Failed("busy" if holder == "ada" else "absent"), 0, 0)
    )

    assert asked == ["ada", "bob", *["ada"] * MAX_REPEATS]
    assert plan.failure(7) == Failed("busy", "ada: busy; bob: absent", 7)


def test_a_connection_that_broke_after_bytes_is_resumed_there_first():
    asked, _ = follow(
        Plan.of(["ada", "bob"]),
        lambda holder: (Failed("unreachable"), 0, 10) if holder == "ada" else (Failed("absent"), 10, 10),
    )

    assert asked[: MAX_RESUMES + 1] == ["ada"] * (MAX_RESUMES + 1)
    assert "bob" in asked


def test_a_liar_is_not_asked_again_but_whoever_only_finished_its_work_is():
    fresh, _ = follow(Plan.of(["eve", "bob"]), lambda _: (Failed("corrupt"), 0, 0))
    mixed = Plan.of(["bob"]).after(Failed("corrupt"), started_at=5, stopped_at=0)

    assert fresh == ["eve", "bob"]
    assert [turn.holder for turn in mixed.turns] == ["bob"]


def test_a_liar_that_breaks_off_and_comes_back_is_asked_no_more_once_its_bytes_alone_were_wrong():
    plan = Plan.of(["eve", "bob"])
    plan = plan.after(Failed("unreachable"), started_at=0, stopped_at=5)
    plan = plan.after(Failed("corrupt"), started_at=5, stopped_at=0)

    assert [turn.holder for turn in plan.turns] == ["bob"]


def test_whoever_only_finished_the_work_of_a_liar_is_asked_for_all_of_it():
    plan = Plan.of(["eve", "bob"]).after(Failed("timeout"), started_at=0, stopped_at=5)
    plan = plan.after(Failed("corrupt"), started_at=5, stopped_at=0)

    assert [turn.holder for turn in plan.turns] == ["bob"]
    assert plan.after(Failed("corrupt"), started_at=0, stopped_at=0).turns == ()


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

    asked, plan = follow(Plan.of(holders), answer)

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
