"""Announcements whose signature holds and whose fields stand at and beyond their bounds, for ever and by a seed.

    mouth = announcements(Random(7), key, network, blobs=[(digest, size)], addresses=(address,))
    for envelope in itertools.islice(mouth, 1000): ...       # bytes for `Transport.publish`

What a decoder is given by the other targets, a whole daemon is given by these: everything that a peer with a key of its
own can say. Most have one field that is odd, some have several, some have none, so that honest ones are taken, fetched
and merged in between. Numbers go on as an honest peer's do, or are said twice, or go back. The same seed says the same,
but for what `clock` says.

`Mouth` says which kind comes next, for whoever wants them in an order of their own: `honest`, `odd`, `again` (the same
with a new time), `equivocating` (another blob under the last number), `offence` (nothing an honest peer can send).
Four offences in one gossip frame ban their sender.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final

import msgpack

from p2pfinetune.names import Digest
from peerd.wire.envelope import DOMAIN
from peerd.wire.keys import PeerKey
from peerd.wire.messages import MAX_ADDRESS, MAX_ADDRESSES, MAX_NAME, VERSION

OTHER_KEY: Final = PeerKey(b"\x5a" * 32)
EPOCH: Final = 1_700_000_000
OFFENCES_OF_A_BAN: Final = 4
"""That no honest peer commits; see `peerd.core.limits.BAN_AT`."""
LINE_BREAKS: Final = ("\n", "\r", "\r\n", "\0", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", " ", "\t", "\ufeff")
"""What a pattern, a `strip` or a `splitlines` may take for the end of a text."""
NOT_A_TEXT: Final = (None, 0, 1.5, True, b"bytes", [], {}, ["a"], {"a": 1}, math.nan)
NOT_A_NUMBER: Final = (None, "7", 1.5, 3.0, True, b"7", [7], {}, math.inf, -math.inf, math.nan, "")
BEYOND_64_BITS: Final = (-1, -(2**31), -(2**63), 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1)
MISSING: Final = object()


def announcements(
    rng: Random,
    key: PeerKey,
    network: Digest,
    *,
    blobs: Sequence[tuple[Digest, int]] = (),
    addresses: Sequence[str] = (),
    clock: Callable[[], int] = lambda: EPOCH,
) -> Iterator[bytes]:
    """Envelopes without an end; see `Mouth` for what is given."""
    mouth = Mouth(rng, key, network, blobs=blobs, addresses=addresses, clock=clock)
    while True:
        yield mouth.anything()


class Mouth:
    """One peer that has a key of the network and no manners.

    `blobs`: (digest, bytes) pairs that somebody serves. `addresses`: where the peer really listens. `clock`: unix seconds.
    """

    def __init__(
        self,
        rng: Random,
        key: PeerKey,
        network: Digest,
        *,
        blobs: Sequence[tuple[Digest, int]] = (),
        addresses: Sequence[str] = (),
        clock: Callable[[], int] = lambda: EPOCH,
        epoch: int = EPOCH,
    ) -> None:
        self._rng, self._key, self._network, self._clock = rng, key, network, clock
        self._blobs = list(blobs) or [(Digest("b" * 64), 1000)]
        self._addresses = tuple(addresses)
        self._epoch, self._sequence = epoch, 0
        self._last = self._fields()

    def anything(self) -> bytes:
        """One of all kinds."""
        kinds: Sequence[Callable[[], bytes]] = (self.odd, self.honest, self.again, self.equivocating, self.offence)
        return self._rng.choices(kinds, weights=(70, 12, 6, 6, 6))[0]()

    def honest(self) -> bytes:
        """Nothing is wrong with it."""
        self._sequence += 1
        self._last = self._fields()
        return signed(self._key, self._last)

    def odd(self, only: str = "") -> bytes:
        """One field, sometimes some, at a bound or beyond it; or that one field."""
        self._sequence += self._rng.choice((0, 1, 1, 1))
        fields = self._fields()
        many = self._rng.choices((1, 2, 3, len(fields)), weights=(70, 15, 10, 5))[0]
        bounds = self.at_the_bounds()
        for name in [only] if only else self._rng.sample(sorted(bounds), many):
            if isinstance(fields[name], str) and self._rng.random() < 0.5:  # what is nearly right finds most
                fields[name] += "\n" if self._rng.random() < 0.5 else self._rng.choice(LINE_BREAKS)
            else:
                fields[name] = self._rng.choice(bounds[name])
        return signed(self._key, fields)

    def again(self) -> bytes:
        """The last honest one with a new time."""
        return signed(self._key, {**self._last, "time": self._clock()})

    def equivocating(self) -> bytes:
        """Another blob under the number of the last honest one."""
        return signed(self._key, {**self._last, "blob": self._digest()})

    def offence(self) -> bytes:
        """Signed or not, it is no announcement: whoever passes it on is counted for it."""
        payload = msgpack.packb(self._fields())
        spoilt: Sequence[Callable[[], bytes]] = (
            lambda: self._rng.randbytes(self._rng.choice((0, 1, 40, 300))),
            lambda: sealed(OTHER_KEY, payload),  # somebody else's signature
            lambda: msgpack.packb([VERSION, payload, bytes(64)]),
            lambda: msgpack.packb([VERSION, payload, b""]),
            lambda: msgpack.packb([VERSION, payload]),
            lambda: msgpack.packb({"version": VERSION}),
            lambda: sealed(self._key, msgpack.packb({**self._fields(), "more": 1})),
            lambda: sealed(self._key, msgpack.packb({**self._fields(), "type": "sample"})),
            lambda: sealed(self._key, msgpack.packb([1, 2])),
            lambda: sealed(self._key, b"\xc1"),
            lambda: sealed(self._key, payload[:1] + payload[1:] + b"\xa4name\xa1x"),  # bytes behind its end
            lambda: sealed(self._key, bytes([payload[0] + 1]) + payload[1:] + b"\xa4name\xa1x"),  # a name twice
            lambda: b"\xdc\0\3" + sealed(self._key, payload)[1:],  # a longer spelling
        )
        return bytes(self._rng.choice(spoilt)())

    def ban(self) -> list[bytes]:
        """So many offences, for one gossip frame."""
        return [self.offence() for _ in range(OFFENCES_OF_A_BAN)]

    def at_the_bounds(self) -> Mapping[str, Sequence[Any]]:
        """By field, values at a bound and beyond it."""
        digests = [*texts("0" * 64, 64), self._digest(), "f" * 64, "F" * 64, "g" * 64, "0x" + "0" * 62, "٠" * 64]
        mine = [digest + end for digest, _ in self._blobs[:2] for end in LINE_BREAKS]
        now, own = self._clock(), self._network
        numbers = [0, 1, 2**31, 2**53, *BEYOND_64_BITS, *NOT_A_NUMBER, MISSING]
        peer = self._key.peer_id
        return {
            "type": [*texts("announcement", 12), "sample", "register", "blob-request", MISSING],
            "network": [own, own.upper(), own[:-1], "c" * 64, *(own + end for end in LINE_BREAKS), *digests, MISSING],
            "peer": [OTHER_KEY.peer_id, *texts(peer, 128), "p" * 8, "p" * 128, "1" * 52, peer[:-1], MISSING],
            "epoch": [self._epoch, self._epoch + 1, self._epoch - 1, *numbers],
            "sequence": [self._sequence + 1, max(0, self._sequence - 1), *numbers],
            "round": [self._sequence, *numbers],
            "codec": ["bf16", "fp32", "int8", "x" * 32, "x" * 33, *texts("bf16", 32), MISSING],
            "size": [size + by for _, size in self._blobs for by in (-1, 0, 1)] + [2**40, 2**40 + 1, *numbers],
            "blob": [*mine, *digests, MISSING],
            "time": [now, now - 301, now - 300, now + 60, now + 61, now + 10**9, *numbers],
            "name": ["", *texts("ada", MAX_NAME), "\u202e\u3164" * 20, "e\u0301" * 32, "anna (me)", "<b>&", MISSING],
            "addresses": [*address_lists(peer), MISSING],
        }

    def _fields(self) -> dict[str, Any]:
        digest, size = self._rng.choice(self._blobs)
        return {
            "type": "announcement", "network": self._network, "peer": self._key.peer_id, "epoch": self._epoch,
            "sequence": self._sequence, "round": self._sequence, "codec": "bf16", "size": size, "blob": digest,
            "time": self._clock(), "name": "eve", "addresses": list(self._addresses),
        }  # fmt: skip

    def _digest(self) -> str:
        return f"{self._rng.getrandbits(256):064x}"


def texts(right: str, longest: int) -> list[Any]:
    """A right text with something at an end, of lengths at the bound and beyond, and what is no text."""
    around = [form for end in LINE_BREAKS for form in (right + end, end + right, right[:1] + end + right[1:])]
    return [
        right,
        *around,
        "",
        "x" * longest,
        "x" * (longest + 1),
        "x" * 3000,
        "x" * 5000,
        "\U0001f600" * longest,
        *NOT_A_TEXT,
    ]


def address_lists(peer: str) -> list[Any]:
    """Of addresses, or of what looks like them."""
    one = f"/ip4/192.0.2.1/tcp/4001/p2p/{peer}"
    odd = ("/ip4/0.0.0.0/tcp/1", "/ip4/127.0.0.1/tcp/0", "/ip4/1.2.3.4/tcp/65536", "/ip6/::1%lo/tcp/1", "/memory/x",
           "/dns4/localhost/tcp/1", f"/dns/{'a' * 240}/tcp/1", f"/p2p/{peer}", "/", "x", "", "/ip4/1.2.3.4/tcp/٣",
           "a" * MAX_ADDRESS, "a" * (MAX_ADDRESS + 1), "\U0001f600" * 200,
           f"/ip4/192.0.2.1/tcp/1/p2p/{OTHER_KEY.peer_id}")  # fmt: skip
    lists: list[Any] = [[text] for text in (*odd, *(one + end for end in LINE_BREAKS))]
    return [*lists, [], [one] * MAX_ADDRESSES, [one] * (MAX_ADDRESSES + 1), ["a"] * 128, ["a"] * 129, [list(odd)],
            [one, None], [1], one, None, {}, 5]  # fmt: skip


def signed(key: PeerKey, fields: Mapping[str, Any]) -> bytes:
    """The envelope around any fields but those that are MISSING."""
    return sealed(key, msgpack.packb({name: value for name, value in fields.items() if value is not MISSING}))


def sealed(key: PeerKey, payload: bytes) -> bytes:
    """The envelope around any bytes, however long it gets."""
    return bytes(msgpack.packb([VERSION, payload, key.sign(DOMAIN + payload)]))
