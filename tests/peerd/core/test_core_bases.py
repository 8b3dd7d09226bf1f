"""Updates that are differences to another blob: when the base is fetched, kept, and given up."""

from __future__ import annotations

from typing import Any

import pytest

from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.limits import MAX_FETCH_TRIES
from peerd.core.round import published

KEY, OTHER_KEY = "b" * 64, "c" * 64
CODECS = {"max_blob_bytes": {"bf16": 1000, "delta": 800}, "difference_codecs": frozenset({"delta"})}


@pytest.fixture
def play(playbook: Any) -> Any:
    """A node with a worker that knows a codec of differences, connected with a peer."""
    play = playbook()
    play.worker(**CODECS)
    play.connect()
    return play


def hear(play: Any, sequence: int = 1, base: str | None = KEY, **fields: Any) -> list[do.AnyEffect]:
    size = {"base": base, "base_size": 700} if base else {}
    return play.hear(sequence=sequence, **({"codec": "delta"} | size | fields))


def got(play: Any, digest: str) -> list[do.AnyEffect]:
    return play.tell(on.BlobFetched, peer="peer-one", digest=digest, bytes_in=1)


def fails(play: Any, digest: str, reason: str = "absent") -> list[do.AnyEffect]:
    return play.tell(on.FetchFailed, peer="peer-one", digest=digest, reason=reason)


def all_in(play: Any, sequence: int, base: str | None = KEY) -> None:
    """A difference all the way in."""
    hear(play, sequence, base)
    if play.node.neighbours["peer-one"].transfer.stage == "fetching-base":
        got(play, base)
    play.fetched(sequence=sequence)
    play.admitted(sequence=sequence)


def known(play: Any) -> Any:
    return play.node.neighbours["peer-one"]


def digest_of(play: Any, sequence: int) -> str:
    return play.said(sequence=sequence).blob


def test_a_missing_base_is_fetched_before_the_update_from_the_same_holders(play: Any) -> None:
    fetch = {"peer": "peer-one", "holders": ("peer-one",), "timeout_seconds": 30.0}

    assert hear(play) == [do.Fetch(digest=KEY, size=700, **fetch)]
    assert got(play, KEY) == [do.Fetch(digest=digest_of(play, 1), size=500, **fetch)]
    admit = do.Admit(peer="peer-one", digest=digest_of(play, 1), codec="delta", base=KEY, order=(1, 1))
    assert play.fetched() == [admit]
    play.admitted()

    play.to_collecting()
    (merge,) = play.wanted(do.Collaborate)
    assert [(candidate.digest, candidate.base) for candidate in merge.candidates] == [(digest_of(play, 1), KEY)]
    assert play.node.phase.digests == (digest_of(play, 1), KEY)


def test_a_key_frame_that_was_admitted_is_the_base_of_what_follows(play: Any) -> None:
    all_in(play, 1, base=None)
    key = digest_of(play, 1)

    assert [fetch.digest for fetch in hear(play, 2, base=key)] == [digest_of(play, 2)]
    play.fetched(sequence=2)
    assert not any(isinstance(effect, do.Forget) for effect in play.admitted(sequence=2))
    assert [fetch.digest for fetch in hear(play, 3, base=key)] == [digest_of(play, 3)]
    play.fetched(sequence=3)
    assert do.Forget(digests=(digest_of(play, 2),)) in play.admitted(sequence=3)


def test_one_base_a_neighbour_is_kept_and_goes_with_the_last_update_that_needs_it(play: Any) -> None:
    all_in(play, 1)
    all_in(play, 2, base=OTHER_KEY)

    assert play.wanted(do.Forget) == [do.Forget(digests=(digest_of(play, 1), KEY))]
    play.tick(play.settings.staleness_seconds + 1.0)
    assert play.wanted(do.Forget) == [do.Forget(digests=(digest_of(play, 2), OTHER_KEY))]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"codec": "bf16"}, "base"),
        ({"base_size": 801}, "oversize"),
        ({"size": 801}, "oversize"),
    ],
)
def test_a_base_of_a_codec_that_has_none_or_beyond_the_bound_is_refused_unfetched(
    play: Any, fields: dict[str, Any], reason: str
) -> None:
    effects = hear(play, **fields)

    assert do.CountRefusal(peer="peer-one", reason=reason) in effects
    assert not any(isinstance(effect, do.Fetch) for effect in effects)


def test_a_base_that_cannot_be_had_is_counted_once_and_the_next_key_frame_waited_for(play: Any) -> None:
    hear(play)
    for _ in range(MAX_FETCH_TRIES - 1):
        assert fails(play, KEY) == []
        play.tick(100.0)
        assert [fetch.digest for fetch in play.wanted(do.Fetch)] == [KEY]

    assert fails(play, KEY) == [do.CountRefusal(peer="peer-one", reason="no-base")]
    assert known(play).is_given_up
    assert hear(play, 2) == hear(play, 3) == play.tick(60.0) == []
    assert [fetch.digest for fetch in hear(play, 4, base=None)] == [digest_of(play, 4)]
    assert known(play).lost_base is None


def test_a_fetch_that_nobody_answers_gives_up_the_base_as_well(play: Any) -> None:
    hear(play)
    for _ in range(2 * MAX_FETCH_TRIES):
        play.tick(100.0)

    assert known(play).lost_base == KEY
    assert play.node.refused["no-base"] == 1


def test_a_base_whose_update_could_not_be_had_is_not_left_behind(play: Any) -> None:
    hear(play)
    got(play, KEY)

    assert do.Forget(digests=(digest_of(play, 1), KEY)) in fails(play, digest_of(play, 1))


def test_a_refused_difference_takes_its_base_with_it_but_not_that_of_the_admitted_one(play: Any) -> None:
    all_in(play, 1)
    hear(play, 2)
    play.fetched(sequence=2)
    refused = play.tell(on.UpdateRefused, peer="peer-one", digest=digest_of(play, 2), reason="malformed")
    assert do.Forget(digests=(digest_of(play, 2),)) in refused

    play.tick(100.0)
    hear(play, 3, base=OTHER_KEY)
    got(play, OTHER_KEY)
    play.fetched(sequence=3)
    refused = play.tell(on.UpdateRefused, peer="peer-one", digest=digest_of(play, 3), reason="malformed")
    assert do.Forget(digests=(digest_of(play, 3), OTHER_KEY)) in refused


def test_a_base_that_our_own_disk_lost_is_fetched_again(play: Any) -> None:
    all_in(play, 1)
    hear(play, 2)
    play.fetched(sequence=2)
    fails(play, digest_of(play, 2))
    play.tick(100.0)

    assert [fetch.digest for fetch in play.wanted(do.Fetch)] == [KEY]


def test_a_worker_that_died_inspecting_a_difference_leaves_no_base_behind(play: Any) -> None:
    hear(play)
    got(play, KEY)
    play.fetched()

    assert do.Forget(digests=(digest_of(play, 1), KEY)) in play.tell(on.WorkerDied, reason="killed")


def test_both_blobs_are_charged_to_the_quota_of_the_peer(play: Any) -> None:
    hear(play)

    assert known(play).quota.level == pytest.approx(1.0 - 1200 / (512.0 * 2**20), abs=1e-9)


def test_what_others_may_still_fetch_of_me_stays_with_its_base(play: Any) -> None:
    own = [play.said("peer-me", 1, codec="delta")]
    own += [play.said("peer-me", number, codec="delta", base=own[0].blob, base_size=500) for number in (2, 3)]
    own += [play.said("peer-me", 4, codec="delta")]
    kept = []
    node = play.node
    for said in own:
        node, _ = published(node, on.Published(at=play.at, announcement=said))
        kept.append({*node.own.blobs, *node.own_before})

    key = own[0].blob
    assert kept == [{key}, {key, own[1].blob}, {key, own[1].blob, own[2].blob}, {own[3].blob, own[2].blob, key}]
