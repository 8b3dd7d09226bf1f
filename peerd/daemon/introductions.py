"""What becomes of asking those whom a person named: bootstrap nodes and peers. Kept by address, said when it changes.

Each cause has a sentence of its own with what to do about it. Some causes pass by themselves and matter only if
nobody is connected; another id, another key and another network do not, and are said in company too.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from p2pfinetune.names import PeerId
from peerd.control.render import printable
from peerd.daemon import misfits
from peerd.net.transport import Connected, Failed, FailureReason
from peerd.wire.addresses import Address

NEVER_BY_ITSELF: Final = frozenset[FailureReason]({"other-identity", "other-key", "other-network"})
WHO: Final = {"--bootstrap": "The bootstrap node", "--peer": "The peer"}
MAX_DETAIL: Final = 300  # characters; strangers choose some of them
_WHAT_TO_DO: Final[Mapping[FailureReason, str]] = {
    "other-key": "Give both the same --group-key FILE, or neither",
    "other-network": "Compare the two: peerd id shows the group and the network, which --group, --model, --rank, "
    "--alpha, --sharing and --targets decide",
    "no-such-name": "Spell it as in: getent hosts NAME; or give the IP address",
    "no-route": "Look at this machine's own network: ip address; ip route",
    "connection-refused": "Check that it runs there, and the port: without --listen it is another one at every start",
    "timeout": "Check that the machine is on, and that its firewall lets the port through",
    "relayed": "Name an address of the machine itself; peerd id prints those that it has",
    "refused": "Check the address: peerd id prints that of a peer, peerd-bootstrap start that of a node",
}
_ELSE: Final = "Check the address, and that it runs there"

_log = logging.getLogger("peerd.introductions")


class Introductions:
    """Of one daemon; `given`: option to the addresses that stand behind it."""

    def __init__(self, given: Mapping[str, Sequence[Address]]) -> None:
        self._given = given
        self._troubles: dict[tuple[str, Address], Failed] = {}
        self._registered: set[Address] = set()
        self._others: dict[Address, tuple[str, ...]] = {}

    def asked(self, node: Address, failed: Failed | None) -> None:
        """A bootstrap node was asked; None: it answered."""
        (self._registered.discard if failed else self._registered.add)(node)
        self._note("--bootstrap", node, failed)

    def knows_others(self, node: Address, kinds: tuple[str, ...]) -> None:
        """A bootstrap node that knows nobody else of this network says in what the nearest other differs."""
        if kinds and kinds != self._others.get(node):
            _log.warning("%s", misfits.registered_elsewhere(node.transport, kinds))
        self._others[node] = kinds

    def others(self) -> list[str]:
        """What to say of that while nobody is connected."""
        return [misfits.registered_elsewhere(node.transport, kinds) for node, kinds in self._others.items() if kinds]

    def dialled(self, peer: PeerId, outcome: Connected | Failed) -> None:
        """A peer was dialled, perhaps one that a person named."""
        for address in self._given.get("--peer", ()):
            if address.peer != peer:
                continue
            if isinstance(outcome, Connected):
                self._note("--peer", address, None)
            elif outcome.address == str(address):
                self._note("--peer", address, outcome)

    def registered(self) -> list[Address]:
        """The bootstrap nodes that answered when they were asked last."""
        return [node for node in self._given.get("--bootstrap", ()) if node in self._registered]

    def lonely(self) -> list[str]:
        """What to say while nobody is connected: each trouble, with what to do."""
        return [self._sentence(option, address, failed) for (option, address), failed in self._troubles.items()]

    def mistaken(self, connected: Collection[PeerId]) -> list[str]:
        """What does not pass by itself, of those that are not connected by another way."""
        return [
            self._sentence(option, address, failed)
            for (option, address), failed in self._troubles.items()
            if failed.reason in NEVER_BY_ITSELF and address.peer not in connected
        ]

    def differs(self) -> set[str]:
        """In what those that a person named and cannot be joined differ: it is said of them, with their address."""
        return {kind for failed in self._troubles.values() for kind in failed.differs}

    def _note(self, option: str, address: Address, failed: Failed | None) -> None:
        before = self._troubles.get((option, address))
        if failed is None:
            if self._troubles.pop((option, address), None) is not None:
                _log.info("%s at %s answers again", WHO[option], address.transport)
            return
        self._troubles[option, address] = failed
        if before is None or _kind(before) != _kind(failed):
            _log.warning("%s", self._sentence(option, address, failed))

    def _sentence(self, option: str, address: Address, failed: Failed) -> str:
        what = misfits.said_of(failed.differs) if failed.differs else printable(failed.detail, MAX_DETAIL)
        what = what or failed.reason
        return f"{WHO[option]} at {address.transport} {_said_of(what)}. {self._advice(option, address, failed)}"

    def _advice(self, option: str, address: Address, failed: Failed) -> str:
        if failed.differs:
            return misfits.advice(failed.differs)
        if failed.found is None:
            return _WHAT_TO_DO.get(failed.reason, _ELSE)
        others = [address.of(failed.found) if one == address else one for one in self._given[option]]
        command = " ".join(["peerd start", *(f"{option} {one}" for one in others)])
        return (
            f"Not {address.peer}, which you named: ask its owner if that is its id now. "
            f"If it is, type: peerd stop; {command}"
        )


def _kind(failed: Failed) -> tuple[object, ...]:
    return failed.reason, failed.found, failed.differs


def _said_of(what: str) -> str:
    """`the name x does not resolve` is said of the address, all else of what is there."""
    return f"cannot be found: {what}" if what.startswith("the name ") else what
