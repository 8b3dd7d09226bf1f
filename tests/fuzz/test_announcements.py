"""The generator of announcements says what it promises: by its seed, with signatures that hold, at and beyond bounds."""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random

from p2pfinetune.names import Digest, Refusal
from peerd.core.limits import BAN_AT
from peerd.core.offences import weight
from peerd.wire.envelope import open_announcement
from peerd.wire.keys import PeerKey
from tests.fuzz.announcements import EPOCH, OFFENCES_OF_A_BAN, Mouth, announcements, signed

KEY, NETWORK = PeerKey(b"\1" * 32), Digest("a" * 64)
HONEST = {
    "type": "announcement", "network": NETWORK, "peer": KEY.peer_id, "epoch": 1, "sequence": 1, "round": 1,
    "codec": "bf16", "size": 1, "blob": "b" * 64, "time": 1, "name": "", "addresses": [],
}  # fmt: skip


def said(seed: int, count: int = 3000) -> list[bytes]:
    return list(itertools.islice(announcements(Random(seed), KEY, NETWORK), count))


def test_a_seed_says_the_same_again_and_another_seed_something_else() -> None:
    assert said(1, 100) == said(1, 100) != said(2, 100)


def test_among_them_are_honest_ones_and_refusals_of_most_kinds_but_few_of_the_signature() -> None:
    opened = [open_announcement(envelope) for envelope in said(3)]
    reasons = Counter(one.reason if isinstance(one, Refusal) else "taken" for one in opened)

    assert {"taken", "bad-message", "bad-envelope", "malformed", "oversize", "signature"} <= reasons.keys()
    assert reasons["taken"] > 600
    assert reasons["signature"] < 300


def test_every_field_is_at_a_bound_in_one_that_is_taken_and_beyond_it_in_one_that_is_not() -> None:
    mouth = Mouth(Random(4), KEY, NETWORK)
    reached: dict[str, set[bool]] = {}
    for name, values in mouth.at_the_bounds().items():
        for value in values:
            envelope = signed(KEY, {**HONEST, name: value})
            reached.setdefault(name, set()).add(isinstance(open_announcement(envelope), Refusal))

    assert {name for name, kinds in reached.items() if kinds != {True, False}} == set()


def test_a_ban_is_as_many_offences_as_a_ban_takes() -> None:
    mouth = Mouth(Random(5), KEY, NETWORK, clock=lambda: EPOCH)

    for _ in range(50):
        opened = [open_announcement(envelope) for envelope in mouth.ban()]
        assert all(isinstance(one, Refusal) for one in opened)
        assert sum(weight(one.reason) for one in opened if isinstance(one, Refusal)) >= BAN_AT
    assert weight("malformed") * OFFENCES_OF_A_BAN >= BAN_AT
