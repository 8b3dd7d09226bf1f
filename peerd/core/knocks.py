"""How often I knock where nobody has answered me: at one port, at one place, and in all, no matter who names it.

An announcement is signed, so it proves who speaks, and nothing about the addresses in it: they may be a third
party's, and everybody who hears it would knock there. Only an address at which a dial of mine met that very peer is
proven, and it proves itself alone: neither the peer's other addresses nor what it announces next. All others cost a
token of three buckets. If the peer answers, the token comes back, so that honest networks do without limits.
A part of each bucket is left for those that proved good: strangers cannot use up what friends are looked for with.

    target (a port of a host)   4 at once, 2 a minute     what a victim's service sees of me
    place (an IP, an IPv6 /64)  32 at once, 1 in 2 s      what a victim's host or line sees of me
    everywhere                  192 at once, 3 a second   what I can be made to do at all

The victim sees the sum over all peers that heard the lie, so each bound has to be low; that is affordable because none
of them is spent on peers that answer. One spelling for each address is what makes the keys count: `::1` and its long
form, a name with and without its dot, are one target.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from peerd.core.limits import (
    KNOCK_BURST,
    KNOCKS_A_SECOND,
    LEFT_FOR_FRIENDS,
    MAX_KNOCKED,
    PLACE_KNOCK_BURST,
    PLACE_KNOCKS_A_SECOND,
    TARGET_KNOCK_BURST,
    TARGET_KNOCKS_A_SECOND,
)
from peerd.pacing import Bucket
from peerd.wire.places import circuit_of, is_relayed, place_of

PLACE = (PLACE_KNOCK_BURST, PLACE_KNOCKS_A_SECOND)
TARGET = (TARGET_KNOCK_BURST, TARGET_KNOCKS_A_SECOND)


class Knocks(msgspec.Struct, frozen=True, kw_only=True):
    """What may still be knocked at. Places and targets that are not in it were left in peace for long.

    Full buckets are dropped, so each map holds what was spent lately: MAX_KNOCKED at most, or nothing is knocked at.
    """

    everywhere: Bucket = Bucket(level=KNOCK_BURST, filled_at=0.0)
    """Tokens for all claimed addresses together."""
    places: Mapping[str, Bucket] = {}
    """By `place_at`."""
    targets: Mapping[str, Bucket] = {}
    """By `target_of`; each target lies in one place, and one knock takes a token of both."""

    def after(self, at: float, address: str, *, is_friend: bool) -> Knocks | None:
        """Once an address was knocked at; None if it may not be now."""
        share = 0.0 if is_friend else LEFT_FOR_FRIENDS
        everywhere = self.everywhere.take(at, KNOCK_BURST, KNOCKS_A_SECOND, leaving=share * KNOCK_BURST)
        if everywhere is None:
            return None
        target, place = target_of(address), place_at(address)
        port = _bucket(self.targets, target, at, TARGET).take(at, *TARGET, leaving=share * TARGET_KNOCK_BURST)
        host = _bucket(self.places, place, at, PLACE).take(at, *PLACE, leaving=share * PLACE_KNOCK_BURST)
        if port is None or host is None:
            return None
        targets, places = _with(self.targets, target, port, at, TARGET), _with(self.places, place, host, at, PLACE)
        too_many = max(len(targets), len(places)) > MAX_KNOCKED
        return None if too_many else Knocks(everywhere=everywhere, places=places, targets=targets)

    def returned(self, address: str) -> Knocks:
        """Once the right peer answered there."""
        return Knocks(
            everywhere=_given_back(self.everywhere),
            places=_one_more(self.places, place_at(address)),
            targets=_one_more(self.targets, target_of(address)),
        )

    def is_used_up(self, at: float, *, is_friend: bool) -> bool:
        """Whether nothing new may be knocked at, wherever it is."""
        share = 0.0 if is_friend else LEFT_FOR_FRIENDS
        return self.everywhere.holds(at, KNOCK_BURST, KNOCKS_A_SECOND) < 1.0 + share * KNOCK_BURST


def target_of(address: str) -> str:
    """One port of one host, no matter who is said to be there and how it is written.

    A relay's port is as many as it is places, so that a few peers that do not answer leave the others behind it to be
    found, and made-up ones are as few knocks as at so many ports.
    """
    parts = address.partition("/p2p/")[0].split("/")
    if len(parts) < 5 or parts[0]:
        return address
    port = "/".join([_one_spelling(parts[2]), *parts[3:]])
    return port + circuit_of(address.rpartition("/p2p/")[2]) if is_relayed(address) else port


def place_at(address: str) -> str:
    """Whose traffic it would be: as connections are counted, an IPv4 address or an IPv6 network of a customer."""
    parts = address.split("/")
    return place_of(_one_spelling(parts[2])) if len(parts) >= 5 and not parts[0] else address


def is_name(address: str) -> bool:
    """A name may be another place tomorrow, so it proves nothing."""
    return address.startswith("/dns")


def _one_spelling(host: str) -> str:
    place = place_of(host)
    return place.lower().removesuffix(".") if "/" not in place else _spelled_out(host)


def _spelled_out(host: str) -> str:
    return ipaddress.ip_address(host.partition("%")[0]).exploded


def _bucket(buckets: Mapping[str, Bucket], key: str, at: float, kind: tuple[float, float]) -> Bucket:
    return buckets.get(key) or Bucket(level=kind[0], filled_at=at)


def _with(
    buckets: Mapping[str, Bucket], key: str, bucket: Bucket, at: float, kind: tuple[float, float]
) -> dict[str, Bucket]:
    """One of many replaced; those that are full again are forgotten."""
    left = {other: one for other, one in buckets.items() if one.holds(at, *kind) < kind[0]}
    return {**left, key: bucket}


def _given_back(bucket: Bucket) -> Bucket:
    return replace(bucket, level=bucket.level + 1.0)  # never more than was taken, and `holds` knows the burst


def _one_more(buckets: Mapping[str, Bucket], key: str) -> Mapping[str, Bucket]:
    return {**buckets, key: _given_back(buckets[key])} if key in buckets else buckets
