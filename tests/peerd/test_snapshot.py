"""The snapshot as a pure function of what the parts say."""

import math

import pytest
from msgspec.structs import replace

from p2pfinetune.names import Digest, PeerId, Round
from p2pfinetune.round.figures import LossMargin, RoundFigures
from peerd.config import Config
from peerd.control.words import advice
from peerd.core.clocks import told_by
from peerd.core.limits import THROTTLE_AT
from peerd.core.neighbours import Neighbour, Update
from peerd.core.node import begin
from peerd.core.offences import Standing
from peerd.core.phases import Resting, Training
from peerd.core.settings import Settings
from peerd.daemon.snapshot import Parts, snapshot
from peerd.net.transport import Met, PeerTraffic
from peerd.status import LoopNow, MemoryNow, RoundRecord, SplitNow, WorkerNow
from peerd.wire.addresses import Address

ME, BOB, EVE = PeerId("12D3KooWme"), PeerId("12D3KooWbob"), PeerId("12D3KooWeve")
TRAINING = Training(round=Round(3), began_at=0.0)


def parts(**changes):
    fields = {
        "at": 100.0,
        "began_at": 40.0,
        "config": Config(name="alice", group="writers"),
        "worker": WorkerNow(state="training"),
        "loop": LoopNow(),
        "figures": RoundFigures(),
        "traffic": {},
        "addresses": ("/memory/me",),
    }
    return Parts(**{**fields, **changes})


def node(**changes):
    begun, _ = begin(Settings(), ME, 0.0)
    return replace(begun, **{"phase": TRAINING, "round": Round(3), "round_began_at": 90.0, **changes})


def update():
    return Update(
        digest=Digest("0" * 64),
        codec="bf16",
        round=Round(2),
        order=(1, 2),
        heard_at=80.0,
        first_heard_at=80.0,
        admitted_at=85.0,
    )


def test_it_says_who_where_and_how_long():
    now = snapshot(node(), parts())

    assert (now.peer_id, now.name, now.group, now.uptime_seconds, now.round) == (ME, "alice", "writers", 60.0, 3)
    assert now.state == "training"
    assert now.sentence
    assert now.health.ok


def test_of_a_large_text_it_says_how_far_the_first_reading_is():
    begun, _ = begin(Settings(), ME, 0.0)
    opening = WorkerNow(state="starting", reading="reading files: 31,200 of 100,000")

    assert snapshot(begun, parts(worker=opening)).sentence == (
        "loading the model and your text; reading files: 31,200 of 100,000"
    )


def test_perplexities_are_those_of_the_guard_split():
    figures = RoundFigures(loss_train=1.0, loss_trust=2.0, guard_base=4.0, guard_own=3.0, guard_personal=2.5)
    now = snapshot(node(), parts(figures=figures))

    assert now.loss.guard == 2.5
    assert now.perplexity.base == pytest.approx(math.exp(4.0))
    assert now.perplexity.personal == pytest.approx(math.exp(2.5))
    assert now.perplexity.twin is None


def test_neighbours_are_those_that_are_here_heard_or_trusted_most_trusted_first():
    known = {
        BOB: Neighbour(peer=BOB, lot=0.5, name="bob", connected=True, admitted=update()),
        EVE: Neighbour(peer=EVE, lot=0.5, connected=True),
        PeerId("12D3KooWhearsay"): Neighbour(peer=PeerId("12D3KooWhearsay"), lot=0.5),
    }
    traffic = {BOB: PeerTraffic(7, 8), ME: PeerTraffic(1, 1)}
    records = [ended(1, {ME: 0.6, BOB: 0.4})]
    now = snapshot(node(neighbours=known, row={ME: 0.6, BOB: 0.4}), parts(traffic=traffic, records=records))

    bob, eve = now.neighbours
    assert (bob.peer_id, bob.name, bob.trust, bob.age_seconds) == (BOB, "bob", 0.4, 15.0)
    assert (bob.bytes_in, bob.bytes_out) == (7, 8)
    assert (eve.peer_id, eve.trust, eve.age_seconds) == (EVE, 0.0, None)
    assert (now.traffic.bytes_in, now.traffic.bytes_out) == (8, 9)


def ended(number, row, reason="", **more):
    losses = dict.fromkeys(["loss_train", "loss_trust", "guard_base", "guard_own", "guard_personal", "guard_twin"])
    rest = {"finished_unix": 0.0, "steps": 1, "bytes_in": 0, "bytes_out": 0}
    return RoundRecord(round=Round(number), row=row, accepted=not reason, reason=reason, **losses, **rest, **more)


def test_what_is_shown_as_trust_is_what_the_model_took_and_never_a_row_that_the_guard_refused():
    both = {ME: 0.5, BOB: 0.5}
    known = {BOB: Neighbour(peer=BOB, lot=0.5, name="ben", connected=True)}
    now = snapshot(node(neighbours=known, row=both), parts(records=[ended(n, both, "worse-than-own") for n in (1, 2)]))

    (ben,) = now.neighbours
    assert (ben.trust, ben.refused_trust) == (0.0, 0.5)
    assert (now.merges.round, now.merges.refused, now.merges.since_round) == (None, 2, 1)


def test_figures_of_the_last_round_say_what_they_rest_on_and_that_they_contradict_one_another():
    def on(nats):
        return SplitNow(tokens=512, documents=3, windows=4, against_base=LossMargin(nats=nats, within=0.1))

    last = ended(2, {ME: 1.0}, on_trust=on(-1.0), on_guard=on(0.3))
    now = snapshot(node(), parts(records=[ended(1, {ME: 1.0}), last])).held_out

    assert (now.trust, now.guard) == (last.on_trust, last.on_guard)
    assert "fell on the trust split" in now.contradiction
    assert snapshot(node(), parts()).held_out.guard is None


def test_what_became_of_the_last_merge_is_said_and_for_how_long_nothing_was_taken():
    alone, both = {ME: 1.0}, {ME: 0.5, BOB: 0.5}
    refused = [ended(number, both, "worse-than-own") for number in (3, 4, 5)]
    done = [ended(1, alone), ended(2, both), *refused]
    said = [snapshot(node(), parts(records=done[:count])).merge for count in range(6)]

    assert said[:3] == ["", "nobody to merge with in round 1", "taken in round 2"]
    assert said[3].startswith("not taken in the last round (worse-than-own; since round 3")
    assert said[5].startswith("not taken in each of the last 3 rounds with somebody (worse-than-own; since round 3")


def test_a_dead_worker_is_unhealthy_with_why():
    now = snapshot(node(), parts(worker=WorkerNow(state="restarting", restarts=2, last_error="out of memory")))

    assert not now.health.ok
    assert "out of memory" in now.health.reasons[0]


def test_workers_that_go_on_running_out_of_memory_are_unhealthy_with_what_to_do_even_while_one_runs():
    memory = MemoryNow(advice="2 workers in a row ran out of memory while training. Next: peerd stop, then ...")
    now = snapshot(node(), parts(worker=WorkerNow(state="training", restarts=2, memory=memory)))

    assert now.health.reasons[0] == memory.advice


@pytest.mark.parametrize("loss", [math.nan, math.inf, 50.0])
def test_losses_that_are_no_numbers_are_unhealthy_with_what_to_try(loss):
    base = snapshot(node(), parts(figures=RoundFigures(loss_train=1.0, guard_base=loss))).health
    own = snapshot(node(), parts(figures=RoundFigures(loss_train=loss, guard_base=3.0))).health

    assert not base.ok
    assert "the base model on held-out text is no number" in base.reasons[0]
    assert "the training of this round is no number" in own.reasons[0]
    assert "--precision fp32" in own.reasons[0]


def test_a_round_that_never_ends_is_unhealthy_but_rest_is_not():
    stuck = snapshot(node(round_began_at=0.0), parts(at=4000.0))
    resting = snapshot(node(round_began_at=0.0, phase=Resting(round=Round(4), reason="done")), parts(at=4000.0))

    assert "Round 3 has not ended for 67 minutes" in stuck.health.reasons[0]
    assert resting.health.ok


def test_nobody_at_a_given_address_is_unhealthy_after_a_minute():
    config = Config(bootstrap=("/ip4/127.0.0.1/tcp/9",))
    lonely = [
        "The bootstrap node at /ip4/127.0.0.1/tcp/9 does not answer. Check the address, and that it runs there",
        "The peer at /dns4/ben.invalid/tcp/9 cannot be found. Spell it as in: getent hosts NAME",
    ]
    early = snapshot(node(), parts(config=config, lonely=lonely, at=50.0))
    late = snapshot(node(), parts(config=config, lonely=lonely, at=101.0))
    friend = {BOB: Neighbour(peer=BOB, lot=0.5, connected=True)}
    helped = snapshot(node(neighbours=friend), parts(config=config, lonely=lonely, at=101.0))

    assert early.health.ok
    assert late.health.reasons == [f"No peer is connected. {lonely[0]}", lonely[1]]  # each on a line of its own
    assert helped.health.ok


def test_a_node_under_another_id_is_unhealthy_at_once_and_in_company_and_is_said_once():
    wrong = ["The bootstrap node at /ip4/127.0.0.1/tcp/9 answers under another id: 12D3. Not 12D4, which you named"]
    config = Config(bootstrap=("/ip4/127.0.0.1/tcp/9",))
    friend = {BOB: Neighbour(peer=BOB, lot=0.5, connected=True)}

    for shown in (
        snapshot(node(neighbours=friend), parts(config=config, mistaken=wrong, lonely=wrong, at=1.0)),
        snapshot(node(), parts(config=config, mistaken=wrong, lonely=wrong, at=500.0)),
    ):
        assert shown.health.reasons == wrong


@pytest.mark.parametrize("told", [{"bootstrap": ("/ip4/127.0.0.1/tcp/9",)}, {"peer": ("/memory/bob",)}, {"lan": True}])
def test_who_looks_where_it_was_told_is_not_told_to_look_somewhere(told):
    assert advice(snapshot(node(), parts(config=Config(**told), at=41.0))) == []
    assert "--bootstrap" in advice(snapshot(node(), parts(at=41.0)))[0]


def test_troubles_of_other_parts_are_passed_on():
    assert snapshot(node(), parts(troubles=["The disk is full."])).health.reasons == ["The disk is full."]


def clocks_off(*seconds):
    """Connected peers whose clocks differ so much from mine."""
    return {
        peer: Neighbour(peer=peer, lot=0.0, connected=True, clock_off=off)
        for peer, off in zip((BOB, EVE), seconds, strict=False)
    }


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (3600.0, "by about 60 minutes (this one would be ahead)"),
        (-90.0, "by about 90 seconds (this one would be behind)"),
        (1.77e9, "by about 56 years"),
        (40 * 86_400.0, "by about 40 days"),
        (36_000.0, "by about 10 hours"),
    ],
)
def test_a_clock_that_differs_from_those_i_listen_to_is_said_without_an_order(ahead, words):
    peers, heard = clocks_off(ahead, ahead), {BOB: Round(3), EVE: Round(2)}
    now = snapshot(node(neighbours=peers, listened_to=heard), parts())
    (reason,) = now.health.reasons

    assert words in reason
    assert reason.startswith("2 of 2 peers that I listen to give a time that differs")
    assert "timedatectl" in reason
    assert not now.notices


def test_what_strangers_say_of_my_clock_is_told_and_leaves_health_alone():
    now = snapshot(node(neighbours=clocks_off(3600.0, 3600.0)), parts())

    assert now.health.ok
    assert now.notices[0].startswith("2 of 2 connected peers, with none of whom I have merged yet, give a time")


@pytest.mark.parametrize(
    ("offs", "heard"),
    [
        ((3600.0,), {BOB: Round(3)}),  # one is not enough
        ((1e15, 1e15), {}),  # what no clock shows is not kept, see core
        ((3600.0, 3600.0), {BOB: Round(3)}),  # one of those I listen to, and a stranger
    ],
)
def test_too_few_to_be_believed_say_nothing_of_my_clock(offs, heard):
    offs = tuple(told_by(off) for off in offs)
    now = snapshot(node(neighbours=clocks_off(*offs), listened_to=heard), parts())

    assert now.health.ok
    assert not now.notices


def test_who_copied_whom_is_shown():
    peers = {BOB: Neighbour(peer=BOB, lot=0.0, connected=True, copy_of=ME)}

    assert snapshot(node(neighbours=peers), parts()).neighbours[0].copy_of == ME


def test_how_a_peer_stands_is_shown():
    peers = {peer: Neighbour(peer=peer, lot=0.0, connected=True) for peer in (BOB, EVE)}
    offender = Standing(offences=THROTTLE_AT + 1.0, at=90.0)
    now = snapshot(node(neighbours=peers, at=100.0, standings={EVE: offender}), parts())

    assert {peer.peer_id: peer.standing for peer in now.neighbours} == {BOB: "good", EVE: "throttled"}


def test_what_a_flood_drowned_is_counted_wherever_it_drowned():
    assert snapshot(node(dropped=3), parts(dropped=4)).dropped == 7


def test_a_private_address_with_a_public_bootstrap_node_is_a_notice_and_no_trouble():
    node_ = Address("ip4", "1.1.1.1", 4001)
    near, far = (f"/ip4/{ip}/tcp/4001" for ip in ("192.168.1.5", "1.1.1.2"))
    now = snapshot(node(), parts(registered=(node_,), addresses=(near,)))

    assert "--announce" in now.notices[0]
    assert now.health.ok
    assert snapshot(node(), parts(registered=(node_,), addresses=(far, near))).notices == []


def test_an_invitation_is_made_of_what_this_daemon_was_started_with():
    config = Config(group="writers", group_key="/far/ada/key", announce=("/ip4/1.1.1.2/tcp/4001",))
    now = snapshot(node(), parts(config=config, addresses=("/ip4/1.1.1.2/tcp/4001",)))

    assert now.invitations == [f"peerd start --data THEIR-FOLDER {now.joining} --peer /ip4/1.1.1.2/tcp/4001"]
    assert now.joining == "--model nano --group writers --group-key FILE"


def test_whom_it_met_and_could_not_join_is_said_while_it_is_alone_and_harms_no_health():
    met = {"group": Met(2, 5.0), "no-key": Met(1, 5.0)}
    others = ["The bootstrap node at X knows nobody else of this network"]
    friend = {BOB: Neighbour(peer=BOB, lot=0.5, connected=True)}
    alone, in_company = (snapshot(node(**more), parts(met=met, others=others)) for more in ({}, {"neighbours": friend}))

    assert [("another group" in said, "no group key" in said) for said in alone.notices] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    assert alone.notices[2] == others[0]
    assert alone.health.ok
    assert in_company.notices == []


def test_announcements_of_another_version_are_told_in_company_too():
    friend = {BOB: Neighbour(peer=BOB, lot=0.5, connected=True)}
    (said,) = snapshot(node(neighbours=friend, refused={"version": 3}), parts()).notices

    assert said.startswith("3 announcements in another version of the protocol")
    assert "peerd --version" in said
