"""Who keeps offending is shut out for a growing time; who is only unlucky is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfinetune.names import Digest, PeerId
from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.limits import BAN_AT, BAN_SECONDS, MAX_BAN_SECONDS, MAX_STANDINGS, OFFENCES_HALVE_SECONDS
from peerd.core.offences import Standing, ban_seconds, faded, offended, worth_keeping
from peerd.core.state import is_banned

LIAR = PeerId("peer-liar")
OTHER_NETWORK = Digest("b" * 64)


@pytest.fixture
def play(playbook: Any) -> Any:
    play = playbook()
    play.worker()
    return play


def offend(play: Any, times: int, reason: str = "bad-signature", peer: PeerId = LIAR) -> list[do.Ban]:
    """The bans that came of it."""
    bans = []
    for _ in range(times):
        bans += [e for e in play.tell(on.MessageRefused, 0.01, peer=peer, reason=reason) if isinstance(e, do.Ban)]
    return bans


def test_a_few_offences_that_no_honest_peer_commits_ban(play: Any) -> None:
    (ban,) = offend(play, 4)

    assert (ban.peer, ban.seconds, ban.bans, ban.reason) == (LIAR, BAN_SECONDS, 1, "bad-signature")
    assert play.wanted(do.Disconnect) == [do.Disconnect(peer=LIAR)]
    assert [note.peer for note in play.wanted(do.Note)] == [LIAR]
    assert is_banned(play.node, LIAR)


@pytest.mark.parametrize(
    ("reason", "times"), [("other-network", 10_000), ("inspection-failed", 100), ("replay", 10_000), ("rate", 50)]
)
def test_what_happens_to_honest_peers_does_not(play: Any, reason: str, times: int) -> None:
    assert offend(play, times, reason) == []


def test_a_flood_of_small_offences_does(play: Any) -> None:
    assert len(offend(play, 100, "rate")) == 1


def test_offences_fade(play: Any) -> None:
    assert offend(play, 3) == []
    play.tick(OFFENCES_HALVE_SECONDS)
    assert offend(play, 2) == []
    play.tick(10 * OFFENCES_HALVE_SECONDS)
    assert offend(play, 3) == []


def test_nothing_that_a_banned_peer_says_is_heard(play: Any) -> None:
    offend(play, 4)

    play.tell(on.AnnouncementHeard, 1.0, announcement=play.said("peer-liar"), via=PeerId("peer-one"))

    known = play.node.neighbours.get(LIAR)
    assert known is None or known.latest is None
    assert not play.wanted(do.Fetch)


def test_refusals_during_a_ban_are_not_even_counted(play: Any) -> None:
    offend(play, 4)
    before = dict(play.node.refused)

    assert offend(play, 50) == []
    assert play.node.refused == before


def test_what_it_had_sent_before_takes_no_part_in_the_merge(play: Any) -> None:
    play.tell(on.PeerConnected, peer=LIAR, address="/ip4/1.2.3.4/tcp/1")
    play.tell(on.AnnouncementHeard, 0.1, announcement=play.said("peer-liar"), via=LIAR)
    play.tell(on.BlobFetched, 0.1, peer=LIAR, digest=play.said("peer-liar").blob, bytes_in=500)
    play.tell(on.UpdateAdmitted, 0.1, peer=LIAR, digest=play.said("peer-liar").blob)
    assert play.node.neighbours[LIAR].admitted is not None

    offend(play, 4)

    assert play.node.neighbours[LIAR].admitted is None
    assert play.said("peer-liar").blob not in play.node.garbage  # deleted at once, since nothing needs it


def test_a_banned_peer_is_not_dialled_and_is_hung_up_on_when_it_comes_back(play: Any) -> None:
    play.tell(on.PeerFound, peer=LIAR, addresses=("/ip4/1.2.3.4/tcp/1",), how="peers")
    play.tell(on.DialFailed, 1.0, peer=LIAR, reason="unreachable")
    offend(play, 4)
    for _ in range(100):
        play.tick(5.0)
        assert not [dial for dial in play.wanted(do.Dial) if dial.peer == LIAR]

    play.tell(on.PeerConnected, peer=LIAR, address="/ip4/1.2.3.4/tcp/1")

    assert play.wanted(do.Disconnect) == [do.Disconnect(peer=LIAR)]


def test_a_ban_ends_by_itself(play: Any) -> None:
    offend(play, 4)
    play.tick(BAN_SECONDS - 1.0)
    assert is_banned(play.node, LIAR)

    play.tick(1.1)
    play.tell(on.PeerConnected, peer=LIAR, address="/ip4/1.2.3.4/tcp/1")
    play.tell(on.AnnouncementHeard, 0.1, announcement=play.said("peer-liar"), via=LIAR)

    assert not is_banned(play.node, LIAR)
    assert play.node.neighbours[LIAR].latest == play.said("peer-liar")


def test_every_ban_is_longer_than_the_last_up_to_a_day(play: Any) -> None:
    found = []
    for _ in range(6):
        (ban,) = offend(play, 4)
        found.append(ban.seconds)
        play.tick(ban.seconds + 1.0)

    assert found == [600.0, 2400.0, 9600.0, 38_400.0, 86_400.0, 86_400.0]


def test_a_person_can_lift_a_ban(play: Any) -> None:
    offend(play, 4)

    play.tell(on.BanLifted, peer=LIAR)

    assert play.wanted(do.LiftBan) == [do.LiftBan(peer=LIAR)]
    assert not is_banned(play.node, LIAR)
    (ban,) = offend(play, 4)
    assert ban.bans == 1


def test_lifting_what_is_no_ban_is_nothing(play: Any) -> None:
    assert play.tell(on.BanLifted, peer=LIAR) == []


def test_a_ban_is_known_after_a_restart(playbook: Any) -> None:
    at = 100.0
    play = playbook(standings={LIAR: Standing(at=at, bans=2, until=at + 50.0, reason="norm")})
    play.worker()

    play.tell(on.AnnouncementHeard, 1.0, announcement=play.said("peer-liar"), via=PeerId("peer-one"))
    assert LIAR not in play.node.neighbours

    play.tick(60.0)
    (ban,) = offend(play, 4)
    assert ban.seconds == 9600.0


def test_i_never_ban_myself(play: Any) -> None:
    assert offend(play, 100, peer=play.node.me) == []


def test_a_crowd_of_offenders_is_kept_in_bounds_and_bans_stay(play: Any) -> None:
    offend(play, 4)
    for number in range(MAX_STANDINGS + 50):
        play.tell(on.MessageRefused, 0.01, peer=PeerId(f"peer-{number}"), reason="bad-signature")

    assert len(play.node.standings) <= MAX_STANDINGS
    assert is_banned(play.node, LIAR)


@given(
    st.lists(st.tuples(st.floats(0, 3600), st.sampled_from(["rate", "norm", "replay", "other-network"])), max_size=40)
)
def test_offences_never_reach_the_bound_without_a_ban(story: list[tuple[float, str]]) -> None:
    standing, at = Standing(), 0.0
    for pause, reason in story:
        at += pause
        after = offended(standing, at, reason)
        assert after.bans - standing.bans in (0, 1)
        if after.bans > standing.bans:
            assert after.until == at + ban_seconds(standing.bans) <= at + MAX_BAN_SECONDS
        if not after.is_banned(at):
            assert 0.0 <= faded(after, at) < BAN_AT
        standing = after


def test_who_is_banned_is_forgotten_last() -> None:
    standings = {
        PeerId("banned"): Standing(until=1000.0, bans=1),
        PeerId("was"): Standing(until=1.0, bans=2),
        PeerId("bad"): Standing(offences=9.0),
        PeerId("good"): Standing(offences=1.0),
    }

    assert list(worth_keeping(standings, 10.0, 3)) == ["bad", "was", "banned"]
    assert worth_keeping(standings, 10.0, 4) == standings
