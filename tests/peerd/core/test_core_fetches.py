"""Which blobs are fetched, from whom, how often; and what becomes of what arrives."""

from __future__ import annotations

from typing import Any

import pytest

from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.limits import MAX_FETCH_SECONDS, MAX_FETCH_TRIES, MAX_FETCHES, MAX_OTHER_HOLDERS, REMEMBER_SECONDS


def fetch_failed(play: Any, reason: str, sequence: int = 1) -> list[do.AnyEffect]:
    return play.tell(on.FetchFailed, peer="peer-one", digest=play.said("peer-one", sequence).blob, reason=reason)


def test_a_newer_update_is_fetched_while_training_goes_on(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()

    assert play.hear() == [
        do.Fetch(peer="peer-one", digest=play.said().blob, size=500, holders=("peer-one",), timeout_seconds=30.0)
    ]


def test_nothing_is_fetched_twice_at_once_from_one_peer(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear(sequence=1)

    assert play.hear(sequence=2) == []
    assert play.tick() == []
    play.fetched(sequence=1)
    play.admitted(sequence=1)
    assert [fetch.digest for fetch in play.wanted(do.Fetch)] == [play.said(sequence=2).blob]


def test_only_so_many_fetches_run_at_once(playbook: Any) -> None:
    play = playbook(row={f"peer-{number}": 0.1 for number in range(2 * MAX_FETCHES)})
    play.worker()
    fetches = 0
    for number in range(2 * MAX_FETCHES):
        play.connect(f"peer-{number}")
        play.hear(f"peer-{number}")
        fetches += len(play.wanted(do.Fetch))

    assert fetches == MAX_FETCHES
    play.fetched("peer-0")
    assert len(play.wanted(do.Fetch)) == 1


def test_slow_strangers_leave_places_to_whom_i_trust(playbook: Any) -> None:
    play = playbook(row={"peer-good": 0.5, "peer-kind": 0.1})
    play.worker()
    for number in range(2 * MAX_FETCHES):
        play.connect(f"peer-{number}")
        play.hear(f"peer-{number}")  # and then each trickles what it announced

    for peer in ("peer-good", "peer-kind"):
        play.connect(peer)
        assert [fetch.peer for fetch in play.hear(peer) if isinstance(fetch, do.Fetch)] == [peer]


def test_a_fetched_update_is_inspected_and_then_used(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear(addresses=("/a",))

    assert play.fetched() == [do.Admit(peer="peer-one", digest=play.said().blob, codec="bf16", order=(1, 1))]
    assert play.node.neighbours["peer-one"].admitted is None
    assert play.admitted() == [do.Remember(peer="peer-one", addresses=("/a",))]
    assert play.node.neighbours["peer-one"].is_fresh


def test_what_arrives_without_a_worker_waits_for_one(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear()
    play.tell(on.WorkerDied, reason="killed")

    assert play.fetched() == []
    assert do.Admit(peer="peer-one", digest=play.said().blob, codec="bf16", order=(1, 1)) in play.worker()


def test_an_update_whose_inspection_killed_the_worker_has_to_wait(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear()
    play.fetched()
    play.tell(on.WorkerDied, reason="out of memory")

    assert not any(isinstance(effect, do.Admit | do.Fetch) for effect in play.worker())
    play.tick(60.0)
    assert len(play.wanted(do.Fetch)) == 1


def test_a_good_peer_is_remembered_only_now_and_then(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear(addresses=("/a",))
    play.fetched()
    play.admitted()
    play.receive(sequence=2)
    assert play.wanted(do.Remember) == []
    play.tick(REMEMBER_SECONDS)
    play.receive(sequence=3)

    assert play.wanted(do.Remember) == [do.Remember(peer="peer-one", addresses=("/a",))]


def test_a_superseded_blob_is_forgotten(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.receive(sequence=1)

    assert do.Forget(digests=(play.said(sequence=1).blob,)) in play.receive(sequence=2)


def test_a_blob_in_a_running_merge_is_forgotten_only_after_it(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.receive(sequence=1)
    play.to_collecting()

    assert play.receive(sequence=2) == []
    assert do.Forget(digests=(play.said(sequence=1).blob,)) in play.collaborated()


def test_a_blob_that_another_peer_announced_too_is_kept(playbook: Any) -> None:
    play = playbook()
    play.worker()
    for peer in ("peer-one", "peer-two"):
        play.connect(peer)
    shared = play.said("peer-one", 1).blob
    play.receive("peer-one", 1)
    play.hear("peer-two", 7, blob=shared)
    play.tell(on.BlobFetched, peer="peer-two", digest=shared, bytes_in=0)
    play.tell(on.UpdateAdmitted, peer="peer-two", digest=shared)

    assert play.wanted(do.Forget) == []
    play.receive("peer-one", 2)
    assert play.wanted(do.Forget) == []


def test_my_own_last_blobs_are_kept_for_those_who_still_fetch_them(playbook: Any) -> None:
    play = playbook(warmup_rounds=9)
    play.worker()
    forgotten = []
    for _ in range(4):
        play.to_collecting()
        forgotten += [digest for effect in play.wanted(do.Forget) for digest in effect.digests]
        play.collaborated()

    assert forgotten == [play.said("peer-me", sequence).blob for sequence in (1, 2)]


def test_the_same_blob_announced_anew_is_not_fetched_again(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.receive(sequence=1)

    assert play.hear(sequence=2, blob=play.said(sequence=1).blob) == []
    assert play.node.neighbours["peer-one"].admitted.order == (1, 2)


def test_a_large_blob_gets_more_time_but_not_for_ever(playbook: Any) -> None:
    play = playbook()
    play.worker(max_blob_bytes={"bf16": 2**40})
    for peer, size in (("peer-one", 40 * 2**20), ("peer-two", 2**39)):
        play.connect(peer)
        play.hear(peer, size=size)
        (fetch,) = play.wanted(do.Fetch)
        assert fetch.timeout_seconds == min(MAX_FETCH_SECONDS, size / 32768)


def test_the_origin_is_asked_first_then_a_few_others_that_announce(playbook: Any) -> None:
    play = playbook(row={"peer-one": 0.5})
    play.worker()
    for number in range(6):
        play.connect(f"peer-{number}")
        play.hear(f"peer-{number}", number + 1)
    play.connect("peer-silent")
    play.connect()

    (fetch,) = play.hear()
    assert fetch.holders[0] == "peer-one"
    assert len(fetch.holders) == 1 + MAX_OTHER_HOLDERS
    assert "peer-silent" not in fetch.holders


def test_other_holders_differ_from_blob_to_blob(playbook: Any) -> None:
    play = playbook(max_neighbours=64)
    play.worker()
    for number in range(MAX_FETCHES):
        play.connect(f"peer-{number}")
        play.receive(f"peer-{number}", number + 1)
    play.connect()
    asked = set()
    for sequence in range(1, 8):
        play.tick(10.0)
        play.hear(sequence=sequence, blob=f"{sequence * 7919:08x}" * 8)
        (fetch,) = play.wanted(do.Fetch)
        asked.update(fetch.holders[1:])
        play.tell(on.BlobFetched, peer="peer-one", digest=fetch.digest, bytes_in=1)
        play.tell(on.UpdateAdmitted, peer="peer-one", digest=fetch.digest)

    assert len(asked) > MAX_OTHER_HOLDERS


def test_an_origin_without_a_connection_is_not_asked(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect("peer-two")
    play.hear("peer-two", 3)
    play.hear("peer-one", addresses=("/a",))

    (fetch,) = play.wanted(do.Fetch)
    assert fetch.holders == ("peer-two",)


def test_what_others_do_not_hold_is_no_fault_of_one_that_was_not_asked(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect("peer-two")
    play.hear("peer-two", 3)
    play.hear("peer-one", addresses=("/a",))
    play.tell(on.FetchFailed, peer="peer-one", digest=play.said("peer-one").blob, reason="absent")
    known = play.node.neighbours["peer-one"]
    assert known.unreliability == 0
    assert not any(fetch.peer == "peer-one" for _ in range(30) for fetch in (play.tick() and play.wanted(do.Fetch)))

    play.connect("peer-one")
    assert [fetch.holders[0] for fetch in play.wanted(do.Fetch) if fetch.peer == "peer-one"] == ["peer-one"]


def test_with_nobody_to_ask_nothing_is_asked(playbook: Any) -> None:
    play = playbook()
    play.worker()

    assert play.hear() == []
    assert len([effect for effect in play.connect() if isinstance(effect, do.Fetch)]) == 1


@pytest.mark.parametrize("reason", ["unreachable", "absent", "busy", "timeout"])
def test_a_failed_fetch_is_tried_again_a_few_times_with_growing_pauses(playbook: Any, reason: str) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear()
    tries, asked_at, waits = 1, play.at, []
    fetch_failed(play, reason)
    for _ in range(600):
        play.tick(1.0)
        if play.wanted(do.Fetch):
            tries, waits, asked_at = tries + 1, [*waits, play.at - asked_at], play.at
            fetch_failed(play, reason)

    assert tries == MAX_FETCH_TRIES
    assert waits[-1] > 3 * waits[0]
    assert play.node.refused == {}


def test_a_newer_announcement_is_tried_after_an_older_one_was_given_up(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear()
    for _ in range(MAX_FETCH_TRIES):
        fetch_failed(play, "absent")
        play.tick(60.0)
    assert play.wanted(do.Fetch) == []

    play.hear(sequence=2)
    assert len(play.wanted(do.Fetch)) == 1


def two_that_announced(playbook: Any) -> Any:
    play = playbook()
    play.worker()
    play.connect("peer-two")
    play.hear("peer-two", 3)
    play.connect()
    play.hear()
    return play


def lied(play: Any, reason: str, *wrong: tuple[str, str], sequence: int = 1) -> list[do.AnyEffect]:
    digest = play.said("peer-one", sequence).blob
    return play.tell(on.FetchFailed, peer="peer-one", digest=digest, reason=reason, wrong=wrong)


@pytest.mark.parametrize("reason", ["corrupt", "oversize"])
def test_an_origin_that_gives_wrong_bytes_is_counted_though_others_hold_nothing(playbook: Any, reason: str) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear()

    assert lied(play, "absent", ("peer-one", reason)) == [do.CountRefusal(peer="peer-one", reason=reason)]
    assert play.node.neighbours["peer-one"].strikes == 1


@pytest.mark.parametrize("lie", ["corrupt", "oversize"])
def test_holders_that_lie_about_the_blobs_of_a_peer_never_get_that_peer_banned(playbook: Any, lie: str) -> None:
    play = playbook()
    play.worker()
    for liar in ("peer-two", "peer-six"):
        play.connect(liar)
        play.hear(liar, 3)
    for sequence in range(1, 9):
        play.hear(sequence=sequence)
        lied(play, lie, ("peer-two", lie), ("peer-six", lie), sequence=sequence)
        play.tick(10.0)

    assert "peer-one" not in play.node.standings
    assert play.node.neighbours["peer-one"].strikes == 0
    liars = {peer for peer, standing in play.node.standings.items() if standing.bans}
    assert liars == ({"peer-two", "peer-six"} if lie == "corrupt" else set())


def test_a_holder_that_gave_wrong_bytes_is_counted_though_another_gave_the_right_ones(playbook: Any) -> None:
    play = two_that_announced(playbook)

    wrong = (("peer-two", "corrupt"),)
    effects = play.tell(on.BlobFetched, peer="peer-one", digest=play.said().blob, bytes_in=1, wrong=wrong)

    assert do.CountRefusal(peer="peer-two", reason="corrupt") in effects
    assert [effect.peer for effect in play.wanted(do.Admit)] == ["peer-one"]


def test_who_announces_what_another_holds_under_another_size_is_counted_and_not_the_holder(playbook: Any) -> None:
    play = two_that_announced(playbook)

    effects = lied(play, "oversize", ("peer-one", "oversize"), ("peer-two", "oversize"))

    assert effects == [do.CountRefusal(peer="peer-one", reason="oversize")]


def test_a_refused_update_is_counted_forgotten_and_not_fetched_again(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear()
    play.fetched()

    effects = play.tell(on.UpdateRefused, peer="peer-one", digest=play.said().blob, reason="not-finite")
    assert effects == [
        do.CountRefusal(peer="peer-one", reason="not-finite"),
        do.Forget(digests=(play.said().blob,)),
    ]
    for _ in range(100):
        assert play.tick(30.0) == []


def test_nobody_waits_for_a_peer_whose_updates_are_refused_again_and_again(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    for sequence in (1, 2, 3):
        play.tick(120.0)
        play.hear(sequence=sequence)
        play.fetched(sequence=sequence)
        play.tell(on.UpdateRefused, peer="peer-one", digest=play.said(sequence=sequence).blob, reason="norm")
    play.hear(sequence=4)

    play.to_collecting()
    assert play.wanted(do.Collaborate)


def test_nobody_waits_for_a_peer_that_announces_and_never_delivers(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    for sequence in (1, 2, 3, 4):
        play.hear(sequence=sequence)
        fetch_failed(play, "timeout", sequence)
        play.tick(60.0)
        fetch_failed(play, "timeout", sequence)

    play.hear(sequence=5)
    play.to_collecting()
    assert play.wanted(do.Collaborate)


def test_a_blob_announced_anew_while_it_was_on_its_way_is_not_fetched_again(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear(sequence=1)
    play.hear(sequence=2, blob=play.said(sequence=1).blob)
    play.fetched(sequence=1)

    assert play.admitted(sequence=1) == []
    assert play.node.neighbours["peer-one"].admitted.order == (1, 2)


def test_one_good_update_makes_up_for_refused_ones(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    for sequence in (1, 2):
        play.tick(120.0)
        play.hear(sequence=sequence)
        play.fetched(sequence=sequence)
        play.tell(on.UpdateRefused, peer="peer-one", digest=play.said(sequence=sequence).blob, reason="norm")
    play.tick(120.0)
    play.receive(sequence=3)

    assert play.node.neighbours["peer-one"].strikes == 0


def test_nobody_can_have_my_own_blobs_deleted_by_announcing_them(playbook: Any) -> None:
    play = playbook(warmup_rounds=9)
    play.worker()
    play.to_collecting()
    play.collaborated()
    play.to_collecting()
    play.connect()
    for sequence, mine in ((1, play.said("peer-me", 1).blob), (2, play.said("peer-me", 2).blob)):
        play.tick(120.0)
        play.hear(sequence=sequence, blob=mine)
        play.tell(on.BlobFetched, peer="peer-one", digest=mine, bytes_in=0)
        play.tell(on.UpdateRefused, peer="peer-one", digest=mine, reason="norm")
        assert play.wanted(do.Forget) == []


def test_a_fetch_that_nobody_answers_is_taken_for_failed(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear()
    play.tick(95.0)

    play.tick(10.0)
    assert len(play.wanted(do.Fetch)) == 1


def test_an_update_that_our_disk_lost_is_fetched_again(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear()
    play.fetched()
    fetch_failed(play, "absent")

    play.tick(10.0)
    assert len(play.wanted(do.Fetch)) == 1


def test_answers_that_nobody_waits_for_are_ignored_and_their_blobs_deleted(playbook: Any) -> None:
    play = playbook()
    play.worker()
    digest = play.said().blob

    assert play.fetched() == [do.Forget(digests=(digest,))]
    assert play.admitted() == [do.Forget(digests=(digest,))]
    assert fetch_failed(play, "absent") == []
    assert play.tell(on.UpdateRefused, peer="peer-one", digest=digest, reason="x") == [do.Forget(digests=(digest,))]
    assert play.node.refused == {}


def test_a_crowd_costs_no_more_fetches_than_a_neighbourhood(playbook: Any) -> None:
    play = playbook(max_neighbours=4)
    play.worker()
    fetched = []
    for number in range(30):
        play.at += 1.0
        play.connect(f"peer-{number:02d}")
        play.hear(f"peer-{number:02d}")
        fetched += play.wanted(do.Fetch)
    for fetch in fetched:
        play.tell(on.BlobFetched, peer=fetch.peer, digest=fetch.digest, bytes_in=1)
        fetched += play.wanted(do.Fetch)
        play.tell(on.UpdateAdmitted, peer=fetch.peer, digest=fetch.digest)
        fetched += play.wanted(do.Fetch)

    assert len({fetch.peer for fetch in fetched}) < 15
