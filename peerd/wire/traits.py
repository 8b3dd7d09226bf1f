"""What two peers that cannot mix tell each other of why: a few bits of each thing that has to be the same.

Whoever is connected hears the network digest, which says that something differs and not what. So each side also tells
a tag of its model, of how it adapts it, and of its group: the first 8 bits of a digest that is keyed with its own id.
That is enough to say which of them differ (wrong once in 256), and whoever asks, and asks again under other ids,
hears the same 8 bits: a dictionary of groups is left with one word in 256 of it. See docs/adr/0023.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from p2pfinetune.names import PeerId
from peerd.wire.messages import VERSION, Why

PROTOCOL: Final = "/peerd/why/1"
MAX_WHY_BYTES: Final = 256
TAG_DIGITS: Final = 2  # hexadecimal


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be the same, as it is known at home. Never sent."""

    group: str = ""
    model: str = ""
    """A digest of `p2pfinetune.model.traits`, as is `adapter`."""
    adapter: str = ""
    other_sharings: tuple[str, ...] = ()
    """What `adapter` would be with another sharing: whoever tells one of these differs in that alone."""
    version: int = VERSION

    def told_by(self, teller: str) -> Why:
        """As whoever has that id tells them; a bootstrap node's id is used for all that register with it."""
        tags = {name: _tag(name, getattr(self, name), teller) for name in ("group", "model", "adapter")}
        return Why(version=self.version, **tags)

    def differences(self, told: Why, teller: str) -> tuple[str, ...]:
        """In what somebody with that id differs; of the adapter, also whether it is the sharing.

        Another difference is taken for one of sharing once in 256 for each sharing that there is.
        """
        of_sharing = {_tag("adapter", other, teller) for other in self.other_sharings}
        found = differences(self.told_by(teller), told)
        return tuple("sharing" if kind == "adapter" and told.adapter in of_sharing else kind for kind in found)


def differences(one: Why, other: Why) -> tuple[str, ...]:
    """What differs, of two tellings under one id: words of `messages.Kind`. Never empty: the networks do differ.

    How a model is adapted follows from the model if nothing else was asked for, so that is said of one model alone.
    """
    found = [name for name in ("version", "group", "model") if getattr(one, name) != getattr(other, name)]
    if one.model == other.model and one.adapter != other.adapter:
        found.append("adapter")
    return tuple(found) or ("network",)


def _tag(name: str, value: str, teller: PeerId | str) -> str:
    return hashlib.sha256(f"peerd trait 1\0{name}\0{teller}\0{value}".encode()).hexdigest()[:TAG_DIGITS]
