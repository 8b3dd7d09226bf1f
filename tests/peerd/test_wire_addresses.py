from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.names import Refusal
from peerd.errors import UsageError
from peerd.wire.addresses import Address, dialable, expand_wildcards, given_addresses, parse_address, usable

PEER = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
OTHER = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/127.0.0.1/tcp/0",
        f"/ip4/192.168.1.20/tcp/4001/p2p/{PEER}",
        f"/ip6/2001:db8::1/tcp/65535/p2p/{PEER}",
        "/dns/example.org/tcp/443",
        "/dns4/a-b.example.org/tcp/1",
        f"/ip4/192.0.2.1/tcp/4001/p2p/{OTHER}/p2p-circuit",
        f"/ip4/192.0.2.1/tcp/4001/p2p/{OTHER}/p2p-circuit/p2p/{PEER}",
        f"/dns4/relay.example.org/tcp/4001/p2p/{OTHER}/p2p-circuit/p2p/{PEER}",
    ],
)
def test_an_address_is_the_text_it_was_read_from(text):
    address = parse_address(text)

    assert isinstance(address, Address)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "127.0.0.1:4001",
        "/ip4/127.0.0.1/udp/4001/quic-v1",
        "/ip4/127.0.0.1/tcp/4001/ws",
        "/ip4/127.0.0.1/tcp/4001/p2p",
        "/ip4/127.0.0.1/tcp/4001/p2p/",
        "/ip4/127.0.0.1/tcp/4001/p2p/nobody",
        "/ip4/127.0.0.1/tcp/4001/p2p-circuit",
        f"/ip4/127.0.0.1/tcp/4001/p2p-circuit/p2p/{PEER}",
        f"/p2p/{OTHER}/p2p-circuit/p2p/{PEER}",
        f"/ip4/127.0.0.1/tcp/4001/p2p/{OTHER}/p2p-circuit/p2p",
        f"/ip4/127.0.0.1/tcp/4001/p2p/{OTHER}/p2p-circuit/p2p/nobody",
        f"/ip4/127.0.0.1/tcp/4001/p2p/nobody/p2p-circuit/p2p/{PEER}",
        f"/ip4/127.0.0.1/tcp/4001/p2p/{OTHER}/p2p-circuits/p2p/{PEER}",
        f"/ip4/127.0.0.1/tcp/4001/p2p/{PEER}/p2p-circuit/p2p/{PEER}",
        f"/ip4/127.0.0.1/tcp/4001/p2p/{OTHER}/p2p-circuit/ip4/1.2.3.4/tcp/1/p2p/{PEER}",
        f"/ip4/127.0.0.1/tcp/4001/p2p/{OTHER}/p2p-circuit/p2p/{PEER}/p2p-circuit",
        "/ip4/1.2.3/tcp/1",
        "/ip4/::1/tcp/1",
        "/ip6/1.2.3.4/tcp/1",
        "/ip6/fe80::1%eth0/tcp/1",
        "/ip4/1.2.3.4/tcp/65536",
        "/ip4/1.2.3.4/tcp/-1",
        "/ip4/1.2.3.4/tcp/١",
        "/ip4/1.2.3.4/tcp/",
        "/dns/-x/tcp/1",
        "/dns/a.-x/tcp/1",
        "/dns/x-.a/tcp/1",
        "/dns/a b/tcp/1",
        "/unix/tmp/tcp/1",
        "x/ip4/1.2.3.4/tcp/1",
        "/dns/" + "a" * 300 + "/tcp/1",
    ],
)
def test_what_is_no_address_is_refused(text):
    assert parse_address(text).reason == "bad-address"


@settings(deadline=None)
@given(st.text(alphabet="/ip46dnstc2:.019aä", max_size=60))
def test_reading_never_raises(text):
    assert isinstance(parse_address(text), Address | Refusal)


RELAYED = f"/ip4/192.0.2.1/tcp/4001/p2p/{OTHER}/p2p-circuit/p2p/{PEER}"


def test_a_relayed_address_is_understood_and_kept_and_never_dialled():
    address, direct = parse_address(RELAYED), "/ip4/192.0.2.7/tcp/1"

    assert address == Address("ip4", "192.0.2.1", 4001, peer=PEER, relay=OTHER)
    assert usable([RELAYED, direct], PEER) == (address, parse_address(direct).of(PEER))
    assert usable([RELAYED], OTHER) == ()  # somebody else is behind it
    assert dialable([RELAYED, direct], PEER) == (parse_address(direct).of(PEER),)
    with pytest.raises(UsageError, match="leads through a relay, which this version cannot dial"):
        given_addresses([RELAYED], "--peer")


def test_of_what_a_stranger_announces_only_its_own_dialable_addresses_are_taken():
    announced = [
        "/ip4/10.0.0.1/tcp/1",
        f"/ip4/10.0.0.1/tcp/1/p2p/{PEER}",
        f"/ip4/10.0.0.2/tcp/1/p2p/{OTHER}",
        "/ip4/0.0.0.0/tcp/1",
        "/ip6/::/tcp/1",
        "/ip4/10.0.0.3/tcp/0",
        "nonsense",
    ]

    assert [str(a) for a in dialable(announced, PEER)] == [f"/ip4/10.0.0.1/tcp/1/p2p/{PEER}"]
    assert len(dialable([f"/ip4/10.0.0.{n}/tcp/1" for n in range(100)], PEER)) == 8


def test_no_stranger_has_a_name_resolved_only_whom_a_person_named_is_looked_up():
    named = [f"/{kind}/ada.example/tcp/1" for kind in ("dns", "dns4", "dns6")]
    given = parse_address(f"/dns4/ada.example/tcp/1/p2p/{PEER}")

    assert dialable(named, PEER) == ()
    assert dialable(named, PEER, {given}) == (given,)
    assert dialable(named, OTHER, {given}) == ()
    assert parse_address(f"/dnsaddr/ada.example/tcp/1/p2p/{PEER}").reason == "bad-address"


def test_a_wildcard_becomes_the_addresses_of_the_machine_loopback_last():
    wild = [parse_address("/ip4/0.0.0.0/tcp/7"), parse_address("/ip6/::/tcp/8"), parse_address("/ip4/10.0.0.9/tcp/9")]

    found = expand_wildcards(wild, ["127.0.0.1", "192.168.1.5", "fe80::1", "fd00::2", "::1"])

    assert [str(a) for a in found] == [
        "/ip4/192.168.1.5/tcp/7",
        "/ip4/127.0.0.1/tcp/7",
        "/ip6/fd00::2/tcp/8",
        "/ip6/::1/tcp/8",
        "/ip4/10.0.0.9/tcp/9",
    ]


@pytest.mark.parametrize(
    ("text", "lack"),
    [
        ("10.0.0.1:4001", "should look like"),
        ("/ip4/10.0.0.1/tcp/4001", "lacks the peer's id"),
        (f"/ip4/10.0.0.1/tcp/0/p2p/{PEER}", "lacks the port"),
        ("/ip4/10.0.0.1/tcp/4001/p2p/x", "no peer id"),
    ],
)
def test_a_person_is_told_what_is_wrong_with_an_address_and_the_right_form(text, lack):
    with pytest.raises(UsageError, match=lack) as raised:
        given_addresses([text], "--peer")

    assert f"--peer {text!r}" in str(raised.value)
    assert "/ip4/192.168.1.20/tcp/4001/p2p/12D3KooW..." in raised.value.hint


def test_a_good_address_of_a_person_is_taken():
    assert [str(a) for a in given_addresses([f" /ip4/10.0.0.1/tcp/1/p2p/{PEER} "], "--peer")] == [
        f"/ip4/10.0.0.1/tcp/1/p2p/{PEER}"
    ]


@pytest.mark.parametrize("peer", ["nobody", PEER[:-1] + "0", PEER.replace("A", "\0"), PEER + "é", "Q" * 128])
def test_nothing_is_dialled_for_a_name_that_is_no_peer_id(peer):
    assert dialable(["/ip4/1.2.3.4/tcp/5"], peer) == ()
