"""Knocking at addresses that were only claimed: bounded by port, by place and in all, whoever names them."""

from __future__ import annotations

from typing import Any

import pytest

from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.knocks import Knocks, place_at, target_of
from peerd.core.limits import (
    CLAIMED_ADDRESSES,
    KNOCK_BURST,
    KNOCKS_A_SECOND,
    MAX_KNOCKED,
    PLACE_KNOCK_BURST,
    PLACE_KNOCKS_A_SECOND,
    PROVEN_TRIES,
    TARGET_KNOCK_BURST,
    TARGET_KNOCKS_A_SECOND,
)
from peerd.core.node import step
from peerd.wire.messages import PeerRecord

SECONDS = 120
CROWD = 32


def allowed(seconds: float) -> float:
    """What the threat model promises of all knocks together: 555 in two minutes."""
    return KNOCK_BURST + (seconds + 1) * KNOCKS_A_SECOND


class Street:
    """Counts at which addresses a node knocks, where nobody answers whatever is asked."""

    def __init__(self, play: Any) -> None:
        self.play = play
        self.knocks: list[str] = []

    def tell(self, kind: type[Any], **fields: Any) -> None:
        """As the playbook does, but the invariants are looked at by `tick` alone: this is a flood."""
        self.play.node, effects = step(self.play.node, kind(at=self.play.at, **fields))
        self.ask(effects)

    def ask(self, effects: list[do.AnyEffect]) -> None:
        for effect in effects:
            match effect:
                case do.Dial(peer=peer, addresses=addresses):
                    self.knocks += addresses
                    self.tell(on.DialFailed, peer=peer, reason="unreachable")
                case do.Fetch(peer=peer, digest=digest, holders=holders):
                    for holder in holders:  # one that is not connected would be dialled for the blob
                        known = self.play.node.neighbours.get(holder)
                        self.knocks += [] if known is None or known.connected else known.addresses
                    self.tell(on.FetchFailed, peer=peer, digest=digest, reason="unreachable")
                case _:
                    pass

    def at(self, place: str) -> int:
        return sum(place_at(address) == place for address in self.knocks)


@pytest.fixture
def play(playbook: Any) -> Any:
    play = playbook()
    play.worker()
    play.connect("peer-good")
    return play


def connect_once(play: Any, peer: str) -> None:
    play.connect(peer)
    play.tell(on.PeerDisconnected, peer=peer)


def answer_a_dial(play: Any, peer: str, address: str) -> None:
    """A dial of mine meets the peer there; then the connection is gone."""
    play.tell(on.PeerFound, peer=peer, addresses=(address,), how="bootstrap")
    while not [dial for dial in play.wanted(do.Dial) if dial.peer == peer]:
        play.tick()
    play.tell(on.PeerConnected, peer=peer, address=address)
    play.tell(on.PeerDisconnected, peer=peer, after=40.0)


def dials_of(play: Any, peer: str, seconds: int) -> list[tuple[str, ...]]:
    dials = []
    for _ in range(seconds):
        play.tick()
        dials += [dial.addresses for dial in play.wanted(do.Dial) if dial.peer == peer]
        for dial in play.wanted(do.Dial):
            play.tell(on.DialFailed, peer=dial.peer, reason="unreachable")
    return dials


def claim(kind: str, crowd: int, second: int) -> tuple[str, ...]:
    """Eight addresses of third parties."""
    return {
        "one port": ("/ip4/192.0.2.1/tcp/80",),
        "one host": tuple(f"/ip4/192.0.2.1/tcp/{(crowd * 131 + second * 8 + n) % 60_000 + 1}" for n in range(8)),
        "one network": tuple(f"/ip6/2001:db8::{crowd:x}:{second:x}:{n:x}/tcp/80" for n in range(8)),
        "everywhere": tuple(f"/ip4/198.{crowd}.{second}.{n}/tcp/80" for n in range(8)),
    }[kind]


@pytest.mark.parametrize(
    ("comes", "kind"),
    [
        *(("once", kind) for kind in ("one port", "one host", "one network", "everywhere")),
        ("never", "everywhere"),
        ("again and again", "one host"),
        ("with updates that are good", "everywhere"),
    ],
)
def test_whatever_a_crowd_announces_third_parties_are_knocked_at_as_seldom_as_promised(
    play: Any, comes: str, kind: str
) -> None:
    street, crowd = Street(play), [f"sybil-{number}" for number in range(CROWD)]
    for peer in crowd if comes != "never" else ():
        connect_once(play, peer)
        if comes == "with updates that are good" and peer in crowd[:20]:
            play.tell(on.AnnouncementHeard, announcement=play.said(peer, 1, addresses=claim(kind, 1, 1)), via=peer)
            play.fetched(peer)
            play.admitted(peer)
    for second in range(SECONDS):
        street.ask(play.tick())
        for number in range(second % 4, CROWD, 4):  # each as often as it is heard
            said = play.said(crowd[number], second + 2, addresses=claim(kind, number, second))
            street.tell(on.AnnouncementHeard, announcement=said, via=crowd[number])
            if comes == "again and again" and number % 8 == 0:
                street.tell(on.PeerConnected, peer=crowd[number], address="/ip4/203.0.113.1/tcp/9")
                street.tell(on.PeerDisconnected, peer=crowd[number])

    assert 0 < len(street.knocks) <= allowed(SECONDS) <= 555
    if kind != "everywhere":
        place = place_at(claim(kind, 0, 0)[0])
        assert street.at(place) <= PLACE_KNOCK_BURST + (SECONDS + 1) * PLACE_KNOCKS_A_SECOND
    if kind == "one port":
        assert len(street.knocks) <= TARGET_KNOCK_BURST + (SECONDS + 1) * TARGET_KNOCKS_A_SECOND


def test_announced_addresses_of_a_third_party_are_knocked_at_seldom_under_ever_new_names(play: Any) -> None:
    street, seconds = Street(play), 300
    for second in range(seconds):
        for number in range(4):
            said = play.said(f"sybil-{second}-{number}", addresses=claim("everywhere", number, second % 256))
            street.tell(on.AnnouncementHeard, announcement=said, via="x")
        street.ask(play.tick())

    assert KNOCK_BURST / 2 < len(street.knocks) <= allowed(seconds)


def test_what_a_node_says_of_a_third_peer_is_a_claim_too(play: Any) -> None:
    answer_a_dial(play, "peer-known", "/ip4/203.0.113.9/tcp/1")
    street = Street(play)
    for second in range(SECONDS):
        addresses = claim("one host", 1, second)
        street.tell(on.PeerFound, peer="peer-known", addresses=addresses, how="bootstrap")
        street.ask(play.tick())

    assert street.at("192.0.2.1") <= PLACE_KNOCK_BURST + (SECONDS + 1) * PLACE_KNOCKS_A_SECOND
    assert "/ip4/203.0.113.9/tcp/1" in play.node.neighbours["peer-known"].addresses


def test_an_address_that_answered_proves_itself_and_not_the_peer(play: Any) -> None:
    answer_a_dial(play, "sybil", "/ip4/203.0.113.9/tcp/1")
    assert play.node.neighbours["sybil"].proven == {"203.0.113.9/tcp/1"}
    said = play.said("sybil", addresses=claim("one port", 0, 0))
    play.tell(on.AnnouncementHeard, announcement=said, via="sybil")
    dials = dials_of(play, "sybil", SECONDS)

    assert all("/ip4/203.0.113.9/tcp/1" in dial for dial in dials)
    knocks = sum("/ip4/192.0.2.1/tcp/80" in dial for dial in dials)
    assert 1 <= knocks <= TARGET_KNOCK_BURST + (SECONDS + 1) * TARGET_KNOCKS_A_SECOND


def test_the_far_end_of_a_connection_that_comes_in_while_i_dial_proves_nothing(play: Any) -> None:
    play.tell(on.PeerFound, peer="sybil", addresses=("/ip4/192.0.2.1/tcp/80",), how="bootstrap")
    before = play.node.knocks
    play.tell(on.PeerConnected, peer="sybil", address="/ip4/203.0.113.9/tcp/50123")

    assert play.node.neighbours["sybil"].proven == frozenset()
    assert play.node.neighbours["sybil"].addresses == ("/ip4/192.0.2.1/tcp/80",)
    assert play.node.knocks == before


def test_where_the_peer_answers_the_knock_costs_nothing(play: Any) -> None:
    """Thirty daemons of one host, found in one moment: more than strangers may be looked for there."""
    for number in range(30):
        address = f"/ip4/203.0.113.9/tcp/{number + 1}"
        play.tell(on.PeerFound, peer=f"peer-{number}", addresses=(address,), how="bootstrap")
        assert [dial.addresses for dial in play.wanted(do.Dial)] == [(address,)]
        play.tell(on.PeerConnected, peer=f"peer-{number}", address=address)

    assert play.node.knocks.everywhere.level == KNOCK_BURST


def test_who_answered_is_dialled_there_again_however_many_claims_there_are(play: Any) -> None:
    answer_a_dial(play, "peer-one", "/ip4/203.0.113.9/tcp/1")
    play.connect("peer-one")
    street = Street(play)
    for number in range(200):  # each of them due, and none of them ever dialled before
        addresses = claim("everywhere", number, 1)
        street.tell(on.PeerFound, peer=f"sybil-{number}", addresses=addresses, how="bootstrap")
    street.ask(play.tell(on.PeerDisconnected, peer="peer-one", after=60.0))

    assert "/ip4/203.0.113.9/tcp/1" in {dial[0] for dial in dials_of(play, "peer-one", 3)}


def test_one_that_proved_good_and_moved_is_knocked_at_though_a_crowd_names_its_new_port_first(playbook: Any) -> None:
    friend = PeerRecord(peer="friend", addresses=("/ip4/203.0.113.9/tcp/1",))
    play = playbook(known=(friend,))
    street = Street(play)
    street.ask(play.effects)
    play.worker()
    play.connect("peer-good")
    new = "/ip4/203.0.113.10/tcp/7"
    for number in range(100):
        said = play.said(f"sybil-{number}", addresses=(new, *claim("everywhere", number, 2)))
        play.at += 1.0
        street.tell(on.AnnouncementHeard, announcement=said, via="x")
    said = play.said("friend", addresses=(new,))
    play.tell(on.AnnouncementHeard, announcement=said, via="x")

    assert [new in dial.addresses for dial in play.wanted(do.Dial) if dial.peer == "friend"] == [True]


def test_after_a_restart_what_was_only_claimed_is_a_claim_still(playbook: Any) -> None:
    crowd = [PeerRecord(peer=f"friend-{n}", addresses=claim("one port", n, 0)) for n in range(CROWD)]
    proven = {"friend-0": ("192.0.2.1/tcp/80",)}
    play = playbook(known=tuple(crowd), proven=proven)
    street = Street(play)
    street.ask(play.effects)
    for _ in range(SECONDS):
        street.ask(play.tick())
    of_the_proven = 12  # pauses grow to a minute

    most = TARGET_KNOCK_BURST + (SECONDS + 1) * TARGET_KNOCKS_A_SECOND + of_the_proven
    assert TARGET_KNOCK_BURST < len(street.knocks) <= most
    assert play.node.neighbours["friend-0"].proven == {"192.0.2.1/tcp/80"}


def test_where_nobody_has_answered_for_long_somebody_else_may_live(play: Any) -> None:
    answer_a_dial(play, "peer-one", "/ip4/203.0.113.9/tcp/1")
    dials = dials_of(play, "peer-one", 2500)

    assert len(dials) > PROVEN_TRIES
    assert not play.node.neighbours["peer-one"].proven


def test_what_the_user_named_is_no_claim(play: Any) -> None:
    named = ("/ip4/203.0.113.9/tcp/1",)
    street = Street(play)
    for number in range(300):
        said = play.said(f"sybil-{number}", addresses=(*named, *claim("everywhere", number % 256, 3)[:7]))
        street.ask(play.tell(on.AnnouncementHeard, 0.25, announcement=said, via="x"))
    play.tell(on.PeerFound, peer="peer-named", addresses=named, how="peer")

    assert [dial.addresses for dial in play.wanted(do.Dial) if dial.peer == "peer-named"] == [named]


def test_what_answered_is_not_pushed_out_by_what_the_peer_or_others_say(play: Any) -> None:
    good = "/ip4/203.0.113.9/tcp/1"
    answer_a_dial(play, "peer-one", good)
    play.hear("peer-one", addresses=claim("one host", 1, 1))
    for second in range(20):
        play.tell(on.PeerFound, peer="peer-one", addresses=claim("one host", 2, second), how="bootstrap")

    known = play.node.neighbours["peer-one"]
    assert good in known.addresses
    assert known.addresses[:6] == claim("one host", 1, 1)[:6]
    assert len(known.addresses) == 8


def test_a_fetch_dials_nobody(play: Any) -> None:
    play.connect("peer-two")
    play.hear("peer-two", addresses=("/ip4/203.0.113.9/tcp/1",))
    play.tell(on.PeerDisconnected, peer="peer-two")
    play.tell(on.FetchFailed, peer="peer-two", digest=play.said("peer-two").blob, reason="unreachable")
    play.hear("peer-good")
    fetches = [effect for _ in range(60) for effect in play.tick() if isinstance(effect, do.Fetch)]

    assert fetches
    assert all("peer-two" not in fetch.holders for fetch in fetches)


def test_places_and_targets_in_mind_are_bounded_and_forgotten_when_they_are_full_again() -> None:
    knocks, at = Knocks(), 0.0
    for number in range(3_000):
        at += 0.05
        after = knocks.after(at, f"/ip4/10.{number // 250}.{number % 250}.1/tcp/1", is_friend=number % 2 == 0)
        knocks = after or knocks
        assert len(knocks.targets) <= MAX_KNOCKED / 1.5
        assert len(knocks.places) <= MAX_KNOCKED / 1.5

    after = knocks.after(at + 4000.0, "/ip4/10.0.0.1/tcp/1", is_friend=False)
    assert after is not None
    assert len(after.targets) == len(after.places) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/ip4/192.0.2.1/tcp/80", "/ip4/192.0.2.1/tcp/80/p2p/12D3KooWxyz"),
        ("/ip4/192.0.2.1/tcp/80", "/ip6/::ffff:192.0.2.1/tcp/80"),
        ("/ip6/2001:db8::1/tcp/80", "/ip6/2001:DB8:0:0::1/tcp/80"),
        ("/dns4/Example.org./tcp/80", "/dns4/example.org/tcp/80"),
        ("/dns/example.org/tcp/80", "/dns6/example.org/tcp/80"),
    ],
)
def test_an_address_is_one_target_however_it_is_written(one: str, other: str) -> None:
    assert target_of(one) == target_of(other)
    assert place_at(one) == place_at(other)


@pytest.mark.parametrize(
    "odd", ["", "/", "////", "/ip4", "/ip6/zz/tcp/1", "/ip4/1.2.3/tcp/1", "x" * 256, "/ip6/::1%eth0/tcp/1"]
)
def test_what_is_no_address_is_a_target_of_its_own_and_raises_nothing(odd: str) -> None:
    assert Knocks().after(0.0, odd, is_friend=False) is not None


def test_one_target_in_many_spellings_is_knocked_at_once_in_a_dial(play: Any) -> None:
    spellings = ("/ip4/192.0.2.1/tcp/80", "/ip6/::ffff:192.0.2.1/tcp/80", "/ip6/0:0::FFFF:c000:201/tcp/80")
    play.tell(on.PeerFound, peer="sybil", addresses=spellings, how="bootstrap")

    assert [dial.addresses for dial in play.wanted(do.Dial)] == [spellings[:1]]


def test_a_dial_tries_so_many_claimed_addresses_and_no_more(play: Any) -> None:
    play.tell(on.PeerFound, peer="sybil", addresses=claim("everywhere", 1, 1), how="bootstrap")

    assert [len(dial.addresses) for dial in play.wanted(do.Dial)] == [CLAIMED_ADDRESSES]
