"""Each effect and its answer, with a worker and a network that do as a test says, and a store that remembers."""

import asyncio
import logging
import math
from typing import get_args

import pytest
from msgspec import json, structs

from p2pfinetune.names import Digest, Round
from p2pfinetune.round.figures import AssemblyFigures, LossMargin, RoundFigures, SplitFigures
from p2pfinetune.scoring.perplexity import MAX_LOSS
from peerd.config import Config
from peerd.core import effects
from peerd.core.events import (
    BlobFetched,
    Collaborated,
    CollaborationFailed,
    DialFailed,
    FetchFailed,
    MiddleAnswered,
    MiddleFailed,
    PeerConnected,
    Published,
    PublishFailed,
    PublishWithheld,
    Reannounced,
    Trained,
    UpdateAdmitted,
    UpdateRefused,
)
from peerd.daemon.journal import Journal
from peerd.daemon.middles import Middles
from peerd.daemon.perform import Performer
from peerd.errors import StoreError, WorkerError
from peerd.net.transport import Connected, Failed, Fetched
from peerd.pacing import Backoff
from peerd.store.port import KeptBan, KnownPeer
from peerd.store.rounds import figures_of, shown
from peerd.testing.store import MemoryBlobs, MemoryStore
from peerd.wire.envelope import open_announcement
from peerd.wire.keys import PeerKey
from peerd.worker.hidden import Private
from peerd.worker.messages import (
    Admitted,
    Encoded,
    JobFailed,
    Merged,
    NotAdmitted,
    Stepped,
    Withheld,
)
from tests.support.ports import BOB, FakeNetwork, FakeWorker

ABSENT = Digest("0" * 64)
MARGIN = LossMargin(nats=-0.7, within=0.1)
ON_GUARD = SplitFigures(tokens=512, documents=3, windows=9, against_base=MARGIN)
FAILURE = JobFailed(id=1, code="bug", message="surprise")


class Recording(MemoryStore):
    """A store that can be full."""

    def __init__(self, story):
        super().__init__()
        self.story, self.full = story, 0

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name in {"save_announcement", "save_checkpoint", "save_peer", "save_seen", "count_refusal"}:
            return lambda *arguments: self.refuse_or(name, found, arguments)
        return found

    def refuse_or(self, name, function, arguments):
        self.story.append(name)
        if self.full:
            self.full -= 1
            raise StoreError("the disk is full", "free some space")
        return function(*arguments)


class Bench:
    def __init__(self, folder):
        self.folder, self.story, self.now = folder, [], 1000.0
        self.store, self.blobs = Recording(self.story), MemoryBlobs(folder / "shelf")
        self.worker, self.network, self.key = FakeWorker(), FakeNetwork(self.story), PeerKey(b"a" * 32)
        self.begin()

    def begin(self):
        self.journal = Journal(self.store, self.blobs, pauses=Backoff(first=0.0))

        async def told(_):
            raise AssertionError("nobody asks here")

        middles = Middles(journal=self.journal, worker=self.worker, network=self.network, clock=lambda: 7.0, tell=told)
        self.performer = Performer(
            middles=middles,
            key=self.key,
            config=Config(name="alice"),
            journal=self.journal,
            worker=self.worker,
            network=self.network,
            clock=lambda: 7.0,
            unix=lambda: self.now,
        )
        self.performer.network_digest = Digest("a" * 64)

    def restart(self):
        self.journal.close()
        kept = self.store.reopened()
        self.store = Recording(self.story)
        self.store.__dict__.update(kept.__dict__)
        self.begin()

    def file(self, text):
        path = self.folder / f"scratch-{text}"
        path.write_text(text)
        return str(path)

    def perform(self, effect):
        return asyncio.run(self.performer.perform(effect))


@pytest.fixture
def bench(tmp_path):
    (tmp_path / "shelf").mkdir()
    found = Bench(tmp_path)
    yield found
    found.journal.close()


def test_a_ban_is_kept_by_the_clock_on_the_wall_and_lifted_again(bench):
    assert bench.perform(effects.Ban(peer=BOB, seconds=600.0, bans=2, reason="norm")) is None
    assert bench.store.bans() == [KeptBan(peer=BOB, until_unix=1600.0, seconds=600.0, bans=2, reason="norm")]

    bench.perform(effects.LiftBan(peer=BOB))

    assert bench.store.bans() == []


def test_who_is_shut_out_is_hung_up_on(bench):
    assert bench.perform(effects.Disconnect(peer=BOB)) is None
    assert bench.story == [f"hung up on {BOB}"]


def merged(bench, **changes):
    fields = {
        "id": 1,
        "checkpoint": bench.file("state"),
        "best": None,
        "best_guard": 2.0,
        "row": {bench.key.peer_id: 1.0},
        "accepted": True,
        "reason": "",
        "figures": RoundFigures(loss_trust=2.5, guard_base=4.0, guard_own=3.0, guard_personal=2.0, on_guard=ON_GUARD),
    }
    return Merged(**{**fields, **changes})


def test_training_is_durable_before_its_event_exists(bench):
    bench.worker.answer = Stepped(id=1, checkpoint=bench.file("state"), steps=5, tokens=10, loss_train=3.0)

    event = bench.perform(effects.Train(round=Round(2), steps=5))

    assert (type(event), event.round, event.steps, event.at) == (Trained, 2, 5, 7.0)
    kept = bench.store.checkpoint()
    assert (kept.round, kept.trained) == (2, True)
    assert bench.blobs.path(kept.blob).read_text() == "state"
    assert bench.performer.latest.figures.loss_train == 3.0


def test_training_that_fails_restarts_the_worker_and_says_nothing_to_the_core(bench):
    bench.worker.answer = FAILURE

    assert bench.perform(effects.Train(round=Round(1), steps=5)) is None
    assert bench.worker.restarted == "bug: surprise"


@pytest.mark.parametrize(
    "effect",
    [
        effects.Train(round=Round(1), steps=1),
        effects.Publish(round=Round(1)),
        effects.Collaborate(round=Round(1), candidates=()),
    ],
)
def test_what_was_asked_of_a_dead_worker_has_no_answer(bench, effect):
    bench.worker.answer = WorkerError("gone")

    assert bench.perform(effect) is None


def test_an_update_is_durable_before_it_is_public(bench):
    bench.worker.answer = Encoded(id=1, path=bench.file("update"), size=6)

    event = bench.perform(effects.Publish(round=Round(3)))

    assert isinstance(event, Published)
    assert bench.story[-2:] == ["save_announcement", "spoken"]
    said = open_announcement(bench.network.message)
    assert said == event.announcement
    assert (said.round, said.size, said.codec, said.name) == (3, 6, "bf16", "alice")
    assert said.addresses == ("/memory/me",)
    assert bench.blobs.path(said.blob).read_text() == "update"


PRIVATE = Config(name="alice", private_clip=0.05, private_noise=4.0, private_budget=8.0)


def publish(bench, text, epsilon=None):
    bench.worker.answer = Encoded(id=1, path=bench.file(text), size=len(text), epsilon=epsilon)
    return bench.perform(effects.Publish(round=Round(3)))


def private_bench(bench):
    bench.performer._config = PRIVATE
    return bench


def test_what_a_private_update_spends_is_on_disk_before_it_is_spoken(bench):
    spent_when_spoken = []
    private_bench(bench).network.publish = lambda message: told(spent_when_spoken, bench)

    assert isinstance(publish(bench, "update", epsilon=1.5), Published)

    (job,) = bench.worker.jobs
    assert job.private == Private(clip=0.05, noise=4.0, delta=1e-5, budget=8.0, spent=())
    assert spent_when_spoken == [((4.0, 1),)]
    assert (bench.store.spending().epsilon, bench.store.spending().delta) == (1.5, 1e-5)
    (made,) = bench.store.publications()
    assert (made.round, made.clip, made.noise, made.epsilon, made.unix) == (3, 0.05, 4.0, 1.5, 1000.0)
    assert made.blob == open_announcement(bench.store.announcement()).blob


async def told(seen, bench):
    seen.append(bench.store.spending().noised)


def test_an_update_that_is_encoded_again_after_a_crash_is_counted_again(bench):
    publish(private_bench(bench), "before", epsilon=1.5)
    bench.journal.close()
    bench.journal = bench.performer._journal = Journal(bench.store.reopened(), bench.blobs)

    publish(bench, "after", epsilon=2.5)

    assert bench.worker.jobs[-1].private.spent == ((4.0, 1),)
    assert bench.journal.spending.noised == ((4.0, 2),)
    assert bench.journal.spending.epsilon == 2.5


def test_a_spend_that_cannot_be_written_is_not_spoken(bench):
    private_bench(bench).store.full = 1

    event = publish(bench, "update", epsilon=1.5)

    assert isinstance(event, PublishFailed)
    assert "spoken" not in bench.story
    assert (bench.store.spending(), bench.journal.spending.hidden) == (None, 0)


def test_an_update_beyond_the_budget_is_withheld_and_costs_nothing(bench):
    private_bench(bench).worker.answer = Withheld(id=1, epsilon=9.25)

    event = bench.perform(effects.Publish(round=Round(3)))

    assert isinstance(event, PublishWithheld)
    assert event.reason == "one more update would bring epsilon to 9.25, and the budget is 8"
    assert bench.story == []
    assert bench.journal.spending.hidden == 0


def test_updates_without_noise_are_counted_as_such(bench):
    publish(bench, "one")
    publish(private_bench(bench), "two", epsilon=1.5)

    assert bench.worker.jobs[0].private is None
    assert (bench.store.spending().bare, bench.store.spending().noised) == (1, ((4.0, 1),))


def test_an_update_that_cannot_be_kept_is_not_spoken(bench):
    bench.worker.answer = Encoded(id=1, path=bench.file("update"), size=6)
    bench.store.full = 1

    event = bench.perform(effects.Publish(round=Round(3)))

    assert isinstance(event, PublishFailed)
    assert "the disk is full" in event.reason
    assert "spoken" not in bench.story


def test_an_update_that_cannot_be_encoded_is_a_failure(bench):
    bench.worker.answer = FAILURE

    assert bench.perform(effects.Publish(round=Round(3))).reason == "bug: surprise"


def test_a_network_that_is_down_does_not_stop_publishing(bench):
    bench.worker.answer = Encoded(id=1, path=bench.file("update"), size=6)
    bench.network.outcome = Failed("unreachable")

    assert isinstance(bench.perform(effects.Publish(round=Round(3))), Published)


def test_a_repetition_says_the_same_under_the_same_number_with_the_present_time(bench):
    assert bench.perform(effects.Repeat()) is None
    assert "spoken" not in bench.story
    bench.worker.answer = Encoded(id=1, path=bench.file("update"), size=6)
    bench.perform(effects.Publish(round=Round(3)))
    first, kept = open_announcement(bench.network.message), bench.store.announcement()
    bench.now += 4000.0
    bench.perform(effects.Repeat())

    again = open_announcement(bench.network.message)
    assert (first.time, again.time) == (1000, 5000)
    assert again.repeats(first)
    assert bench.store.announcement() == kept


def said_after(bench, *changes):
    """What a repetition says once the update of round 3 is out and something has changed, and its answer."""
    bench.worker.answer = Encoded(id=1, path=bench.file("update"), size=6)
    bench.perform(effects.Publish(round=Round(3)))
    first = open_announcement(bench.network.message)
    for change in changes:
        change()
    answer = bench.perform(effects.Repeat())
    return first, open_announcement(bench.network.message), answer


def test_addresses_that_have_changed_are_announced_with_the_last_update_under_a_new_number(bench):
    def moved():
        bench.network.addresses = ("/memory/elsewhere",)

    first, again, answer = said_after(bench, moved)

    assert (first.addresses, again.addresses) == (("/memory/me",), ("/memory/elsewhere",))
    assert (again.blob, again.round, again.order > first.order) == (first.blob, first.round, True)
    assert answer == Reannounced(at=7.0, announcement=again)
    assert open_announcement(bench.store.announcement()) == again
    assert bench.story[-2:] == ["save_announcement", "spoken"]
    assert bench.journal.spending.bare == len(bench.store.publications()) == 1
    assert bench.perform(effects.Repeat()) is None
    assert open_announcement(bench.network.message) == again


def test_a_run_says_the_update_of_the_run_before_under_an_epoch_of_its_own(bench):
    first, again, answer = said_after(bench, bench.restart)

    assert again.epoch > first.epoch
    assert (again.blob, again.addresses, answer.announcement) == (first.blob, first.addresses, again)


def test_a_daemon_at_rest_that_was_started_under_another_name_says_that_one(bench):
    def renamed():
        bench.restart()
        bench.performer._config = Config(name="alicia")

    first, again, _ = said_after(bench, renamed)

    assert (first.name, again.name) == ("alice", "alicia")
    assert again.order > first.order


def test_a_network_that_is_down_has_no_addresses_to_announce(bench):
    first, again, answer = said_after(bench, lambda: setattr(bench.network, "addresses", ()))

    assert again == first
    assert answer is None


def test_where_the_disk_refuses_the_new_number_the_old_one_is_said(bench):
    def moved_on_a_full_disk():
        bench.network.addresses, bench.store.full = ("/memory/elsewhere",), 1

    first, again, answer = said_after(bench, moved_on_a_full_disk)

    assert again == first
    assert answer is None
    assert open_announcement(bench.store.announcement()) == first


def test_an_update_and_a_repetition_at_the_same_time_leave_the_newest_on_disk(bench):
    bench.worker.answer = Encoded(id=1, path=bench.file("one"), size=6)
    bench.perform(effects.Publish(round=Round(3)))
    bench.network.addresses = ("/memory/elsewhere",)
    bench.worker.answer = Encoded(id=1, path=bench.file("two"), size=6)

    next_order = bench.journal.next_order

    async def late():
        order = await next_order()
        bench.journal.next_order = next_order
        for _ in range(50):  # the other one has time to overtake it, if it may
            await asyncio.sleep(0.001)
        return order

    async def both():
        bench.journal.next_order = late
        await asyncio.gather(
            *(bench.performer.perform(effect) for effect in (effects.Repeat(), effects.Publish(round=Round(4))))
        )

    asyncio.run(both())

    assert open_announcement(bench.store.announcement()).round == 4


def test_a_clock_before_1970_is_no_reason_to_be_silent(bench):
    bench.worker.answer = Encoded(id=1, path=bench.file("update"), size=6)
    bench.now = -7200.0
    bench.perform(effects.Publish(round=Round(3)))

    assert open_announcement(bench.network.message).time == 0


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (Fetched(ABSENT, BOB, 12), BlobFetched(at=7.0, peer=BOB, digest=ABSENT, bytes_in=12)),
        (Failed("timeout", "late"), FetchFailed(at=7.0, peer=BOB, digest=ABSENT, reason="timeout")),
    ],
)
def test_a_fetch_answers_with_what_the_transport_said(bench, outcome, event):
    bench.network.outcome = outcome

    fetch = effects.Fetch(peer=BOB, digest=ABSENT, size=12, holders=(BOB,), timeout_seconds=3.0)
    assert bench.perform(fetch) == event
    assert bench.network.arguments == (ABSENT, 12, (BOB,), 3.0)


def test_an_admitted_update_is_remembered_as_seen(bench):
    digest = bench.blobs.put(b"update")
    bench.worker.answer = Admitted(id=1)

    event = bench.perform(effects.Admit(peer=BOB, digest=digest, codec="bf16", order=(1, 9)))

    assert event == UpdateAdmitted(at=7.0, peer=BOB, digest=digest)
    assert bench.store.seen() == {BOB: (1, 9)}


@pytest.mark.parametrize(
    ("answer", "reason"), [(NotAdmitted(id=1, reason="norm", detail="9"), "norm"), (FAILURE, "inspection-failed")]
)
def test_a_refused_update_says_why_and_is_not_remembered(bench, answer, reason):
    digest = bench.blobs.put(b"update")
    bench.worker.answer = answer

    event = bench.perform(effects.Admit(peer=BOB, digest=digest, codec="bf16", order=(1, 9)))

    assert event == UpdateRefused(at=7.0, peer=BOB, digest=digest, reason=reason)
    assert bench.store.seen() == {}


def test_a_blob_that_our_own_disk_lost_is_not_held_against_the_peer(bench):
    event = bench.perform(effects.Admit(peer=BOB, digest=ABSENT, codec="bf16"))

    assert event == FetchFailed(at=7.0, peer=BOB, digest=ABSENT, reason="absent")


def test_every_figure_arrives_whole_in_the_event_the_row_and_what_is_shown(bench):
    others = {"on_trust", "on_guard", "assembly"}
    floats = {name: float(n) for n, name in enumerate(RoundFigures.__struct_fields__) if name not in others}
    split = SplitFigures(tokens=1, documents=2, windows=3, against_base=MARGIN, against_twin=MARGIN)
    figures = RoundFigures(**floats, on_trust=split, on_guard=split, assembly=AssemblyFigures(peers=2, layers=3))
    bench.performer.latest.figures = RoundFigures(loss_train=figures.loss_train)
    bench.worker.answer = merged(bench, figures=structs.replace(figures, loss_train=None))

    event = bench.perform(effects.Collaborate(round=Round(4), candidates=()))

    (row,), (record,) = bench.store.rounds(), bench.journal.records
    assert event.figures == bench.performer.latest.figures == figures
    assert {name: getattr(row, name) for name in RoundFigures.__struct_fields__} == structs.asdict(figures)
    assert figures_of(record) == figures
    told = json.decode(json.encode(record))
    assert {name: told[name] for name in floats} == floats
    assert told["guard_local"] == told["guard_twin"]
    assert told["on_guard"]["against_local"] == told["on_guard"]["against_twin"] == {"nats": -0.7, "within": 0.1}


@pytest.mark.parametrize("loss", [math.nan, math.inf, 300.0])
def test_a_round_that_diverged_is_recorded_with_losses_that_every_format_holds(bench, loss):
    bench.worker.answer = merged(bench, figures=RoundFigures(guard_personal=loss, loss_trust=loss))

    event = bench.perform(effects.Collaborate(round=Round(4), candidates=()))

    (row,) = bench.store.rounds()
    assert (row.guard_personal, row.loss_trust, event.figures.guard_personal) == (MAX_LOSS,) * 3


def test_a_round_is_recorded_together_with_the_state_of_the_next(bench):
    bench.worker.answer = merged(bench)
    digest = bench.blobs.put(b"update")
    candidates = (candidate(digest), candidate(ABSENT))

    event = bench.perform(effects.Collaborate(round=Round(4), candidates=candidates))

    (record,) = bench.store.rounds()
    kept = bench.store.checkpoint()
    assert (type(event), event.round, event.best_guard) == (Collaborated, 4, 2.0)
    assert record.on_guard.against_base.nats == -0.7
    assert (record.round, record.guard_personal, record.finished_unix) == (4, 2.0, 1000.0)
    assert (record.bytes_in, record.bytes_out) == (100, 50)
    assert (kept.round, kept.trained, kept.best_guard, kept.best_blob) == (5, False, 2.0, None)
    assert [update.peer for update in bench.worker.jobs[0].updates] == [BOB]
    assert list(bench.journal.records) == [shown(record)]


def candidate(digest):
    return effects.Candidate(peer=BOB, digest=digest, codec="bf16", round=Round(1), age_seconds=1.0)


def test_bytes_are_counted_once(bench):
    for round_ in (1, 2):
        bench.worker.answer = merged(bench)
        bench.perform(effects.Collaborate(round=Round(round_), candidates=()))

    assert [record.bytes_in for record in bench.store.rounds()] == [100, 0]


def test_the_former_state_is_kept_until_the_next_one_and_the_best_for_good(bench):
    best = bench.folder / "best"
    best.write_text("best")
    bench.worker.answer = merged(bench, checkpoint=bench.file("one"), best=str(best))
    bench.perform(effects.Collaborate(round=Round(1), candidates=()))
    first = bench.store.checkpoint()
    bench.worker.answer = merged(bench, checkpoint=bench.file("two"))
    bench.perform(effects.Collaborate(round=Round(2), candidates=()))
    second = bench.store.checkpoint()

    assert second.best_blob == first.best_blob
    assert bench.blobs.size(first.blob) is not None
    bench.worker.answer = merged(bench, checkpoint=bench.file("three"))
    bench.perform(effects.Collaborate(round=Round(3), candidates=()))
    assert bench.blobs.size(first.blob) is None
    assert bench.blobs.size(second.blob) is not None
    assert bench.blobs.size(second.blob) is not None
    assert bench.blobs.size(second.best_blob) is not None


def test_a_full_disk_is_waited_out_where_the_round_needs_it(bench, caplog):
    bench.worker.answer = merged(bench)
    bench.store.full = 3

    event = bench.perform(effects.Collaborate(round=Round(1), candidates=()))

    assert isinstance(event, Collaborated)
    assert bench.journal.trouble == ""
    assert caplog.text.count("the disk refused") == 3


def test_a_full_disk_is_only_said_where_the_daemon_can_do_without(bench, caplog):
    bench.store.full = 1

    assert bench.perform(effects.CountRefusal(peer=BOB, reason="norm")) is None
    assert "going on without" in caplog.text


def test_a_merge_that_fails_is_told(bench):
    bench.worker.answer = FAILURE

    event = bench.perform(effects.Collaborate(round=Round(4), candidates=()))

    assert event == CollaborationFailed(at=7.0, round=Round(4), reason="bug: surprise")


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (Connected(BOB, "/memory/bob"), PeerConnected(at=7.0, peer=BOB, address="/memory/bob")),
        (Failed("refused"), DialFailed(at=7.0, peer=BOB, reason="refused")),
    ],
)
def test_a_dial_answers_with_what_the_transport_said(bench, outcome, event):
    bench.network.outcome = outcome

    assert bench.perform(effects.Dial(peer=BOB, addresses=("/memory/bob",))) == event


def test_small_things_are_written_down(bench, caplog):
    caplog.set_level(logging.INFO, "peerd")
    bench.perform(effects.Remember(peer=BOB, addresses=("/memory/bob",)))
    bench.perform(effects.CountRefusal(peer=BOB, reason="norm"))
    bench.perform(effects.Note(level="warning", message="look here", peer=BOB))

    assert bench.store.peers() == [KnownPeer(peer=BOB, addresses=("/memory/bob",), last_good_unix=1000.0)]
    assert bench.store.refusals() == {BOB: {"norm": 1}}
    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", "look here")]


def test_what_a_restart_needs_is_never_forgotten(bench):
    bench.worker.answer = merged(bench)
    bench.perform(effects.Collaborate(round=Round(1), candidates=()))
    needed, useless = bench.store.checkpoint().blob, bench.blobs.put(b"old")

    bench.perform(effects.Forget(digests=(needed, useless)))

    assert bench.blobs.size(needed) is not None
    assert bench.blobs.size(useless) is None


HALF = effects.Half(digest=Digest("e" * 64), codec="bf16")
ANSWERED = {
    effects.Train: None,
    effects.Collaborate: None,
    effects.Publish: PublishFailed,
    effects.Fetch: FetchFailed,
    effects.Admit: FetchFailed,
    effects.Dial: DialFailed,
    effects.AskMiddle: MiddleFailed,
    effects.AnswerMiddle: MiddleAnswered,
}
"""What the core is told of an effect that raised; where it is nothing, a new worker goes on from the last checkpoint."""


@pytest.mark.parametrize("kind", get_args(effects.AnyEffect), ids=lambda kind: kind.__name__)
def test_the_core_is_told_of_an_effect_that_raised_and_nobody_is_blamed_for_it(kind, bench):
    given = {
        "round": Round(3), "steps": 1, "peer": BOB, "digest": ABSENT, "size": 1, "holders": (BOB,), "codec": "bf16",
        "timeout_seconds": 1.0, "candidates": (), "addresses": (), "digests": (), "level": "info", "message": "",
        "reason": "", "seconds": 1.0, "bans": 1, "number": 1, "mine": HALF, "theirs": HALF,
    }  # fmt: skip
    effect = kind(**{name: given[name] for name in kind.__struct_fields__ if name in given})

    event = bench.performer.failed(effect, "ZeroDivisionError")

    assert type(event) is (ANSWERED.get(kind) or type(None))
    assert bool(bench.worker.restarted) == (kind in {effects.Train, effects.Collaborate, effects.Assemble})
    if isinstance(event, FetchFailed):
        assert (event.peer, event.digest, event.wrong) == (BOB, ABSENT, ())


def published_as(bench, text, *, is_difference=False, codec="delta"):
    bench.performer._config = structs.replace(bench.performer._config, codec=codec)
    bench.worker.answer = Encoded(id=1, path=bench.file(text), size=len(text), is_difference=is_difference)
    return bench.perform(effects.Publish(round=Round(3))).announcement


@pytest.fixture
def differences(monkeypatch):
    """A codec of differences, so that the test is of no particular one."""
    monkeypatch.setattr("peerd.daemon.key_frame.difference_codecs", lambda: frozenset({"delta"}))


@pytest.mark.usefixtures("differences")
def test_a_key_frame_is_offered_to_the_worker_until_another_is_published_and_over_restarts(bench):
    key = published_as(bench, "key")
    assert (key.base, key.base_size) == (None, 0)

    one = published_as(bench, "one", is_difference=True)
    bench.restart()
    two = published_as(bench, "second", is_difference=True)

    jobs = bench.worker.jobs
    assert (jobs[0].key, jobs[0].since_key) == (None, 0)
    assert [(job.key, job.since_key) for job in jobs[1:]] == [(str(bench.blobs.path(key.blob)), n) for n in (1, 2)]
    assert (one.base, one.base_size) == (two.base, two.base_size) == (key.blob, 3)
    again = published_as(bench, "again")
    assert (again.base, again.base_size) == (None, 0)
    published_as(bench, "next", is_difference=True)
    assert bench.worker.jobs[-1].key == str(bench.blobs.path(again.blob))


@pytest.mark.usefixtures("differences")
@pytest.mark.parametrize("lost", ["the blob", "another codec", "another network"])
def test_a_key_frame_that_is_not_there_or_of_something_else_is_not_built_upon(bench, lost):
    key = published_as(bench, "key")
    if lost == "the blob":
        bench.blobs.delete([key.blob])
    if lost == "another network":
        bench.performer.network_digest = Digest("b" * 64)

    published_as(bench, "next", codec="bf16" if lost == "another codec" else "delta")

    assert bench.worker.jobs[-1].key is None


def test_a_difference_goes_to_the_worker_with_its_base(bench):
    digest, base = bench.blobs.put(b"update"), bench.blobs.put(b"base")
    bench.worker.answer = Admitted(id=1)

    bench.perform(effects.Admit(peer=BOB, digest=digest, codec="delta", base=base))
    bench.worker.answer = merged(bench)
    candidates = [structs.replace(candidate(digest), base=base), structs.replace(candidate(digest), base=ABSENT)]
    bench.perform(effects.Collaborate(round=Round(4), candidates=tuple(candidates)))

    assert bench.worker.jobs[0].base == str(bench.blobs.path(base))
    assert [update.base for update in bench.worker.jobs[1].updates] == [str(bench.blobs.path(base))]


def test_a_base_that_our_own_disk_lost_is_not_held_against_the_peer(bench):
    digest = bench.blobs.put(b"update")

    event = bench.perform(effects.Admit(peer=BOB, digest=digest, codec="delta", base=ABSENT))

    assert event == FetchFailed(at=7.0, peer=BOB, digest=digest, reason="absent")
