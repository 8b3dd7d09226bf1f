"""Who is dialled and when: for ever, with a growing pause, first and later connects by the same path.

There is one path for a first connect, a redial after a lost connection and a return after a year: a peer in the table
that is not connected and has an address is *due* at `dial_not_before`. That is all the state that a dial has:

                 due, and a place free, and a knock allowed                PeerConnected
      idle ---------------------------------------------------> dialling --------------> connected
       ^  dial_not_before = now + pause                            |                         |
       +------------- DialFailed, or no answer in time ------------+                         |
       +------------- PeerDisconnected (a short stay counts as a failed dial) ---------------+

Invariant: `connected` and `dialling_since` exclude each other. The pause doubles from one second to five minutes and
never ends; it is spread by lot, so that peers that lost the same hub do not come back in step. It is cut short when
nobody is connected at all, when a peer comes back or has a new address, and when the own machine has moved.

Two attacks shape the rest. *Eclipse* (Heilman et al., "Eclipse Attacks on Bitcoin's Peer-to-Peer Network", USENIX
Security 2015): a crowd takes all connections. So half of the connections are kept for my own choice (`_sought`), the
partial view is dialled however many others are connected, and neither friends nor strangers can have all the dials. As
Bitcoin tells *tried* from *new* addresses, `proven` ones (a dial of mine met that peer there) are told from those that
were only claimed. *Reflection*: an announcement may name a third party's address, and all who hear it would knock
there. So claimed addresses cost a token of `knocks`, and at most `CLAIMED_ADDRESSES` are tried in one dial.

Connection events can be lost or late; each tick brings the truth (`reconciled`).
"""

from __future__ import annotations

from msgspec.structs import replace

from peerd.core.dice import roll
from peerd.core.effects import AnyEffect, Dial, Disconnect
from peerd.core.events import DialFailed, PeerConnected, PeerDisconnected, PeerFound, Ticked
from peerd.core.knocks import is_name, target_of
from peerd.core.limits import (
    CLAIMED_ADDRESSES,
    DIAL_BACKOFF_SECONDS,
    DIAL_GRACE_SECONDS,
    LONELY_DIAL_SECONDS,
    MAX_DIAL_BACKOFF_SECONDS,
    MAX_DIALS,
    MIN_REPEAT_SECONDS,
    NO_KNOCK_SECONDS,
    PROVEN_TRIES,
    SETTLE_SECONDS,
    SILENT_SECONDS,
    STEADY_SECONDS,
)
from peerd.core.neighbours import Neighbour, fitting, with_hearsay
from peerd.core.state import Moved, Node, is_banned, put, throttled, welcome
from peerd.pacing import Backoff
from peerd.wire.places import is_relayed

BY_THE_USER = "peer"  # how one is found that was named with --peer


def start(node: Node) -> Moved:
    """Begin what dials are wanted and due. Good standing first, then fewest failures, friends, and the longest due."""
    effects: list[AnyEffect] = []
    busy = running(node)
    if busy >= MAX_DIALS:
        return node, effects
    due = [known for known in node.neighbours.values() if is_due(node, known)]
    if not any(_may_be_knocked_at(node, known) for known in due):
        return node, effects
    due.sort(
        key=lambda known: (
            throttled(node, known.peer),
            known.dial_attempt,
            not known.remembered,
            known.dial_not_before,
            known.peer,
        )
    )
    slots = max(0, min(MAX_DIALS, _sought(node)) - busy)
    for known in _one_of_each(node, due):
        if len(effects) >= MAX_DIALS - busy:
            break
        if len(effects) >= slots and not _is_in_view(node, known):
            continue
        if not _may_be_knocked_at(node, known):
            continue
        paid, dialled, addresses = _allowed(node, known)
        if not addresses:
            node = put(node, replace(known, dial_not_before=node.at + NO_KNOCK_SECONDS))
            continue
        node = put(paid, replace(dialled, dialling_since=node.at))
        effects.append(Dial(peer=known.peer, addresses=addresses))
    return node, effects


def _may_be_knocked_at(node: Node, known: Neighbour) -> bool:
    """Whether it is worth looking at its addresses: the quick answer, while a crowd is due."""
    return bool(known.proven) or not node.knocks.is_used_up(node.at, is_friend=known.remembered)


def _allowed(node: Node, known: Neighbour) -> tuple[Node, Neighbour, tuple[str, ...]]:
    """Where it may be dialled now: all that have answered me, a few of those that were only claimed."""
    knocks, knocked, addresses = node.knocks, set[str](), []
    for address in _another_first(known):
        target = target_of(address)
        if target not in known.proven:
            is_one_too_many = len(knocked) >= CLAIMED_ADDRESSES or target in knocked
            rest = None if is_one_too_many else knocks.after(node.at, address, is_friend=known.remembered)
            if rest is None:
                continue
            knocks = rest
            knocked.add(target)
        addresses.append(address)
    return replace(node, knocks=knocks), replace(known, knocked=frozenset(knocked)), tuple(addresses)


def _sought(node: Node) -> int:
    """Connections still wanted, to whomever: so many in all, and half of them at least of my own choice.

    Else a crowd that comes first would leave no room for anybody that I look for.
    """
    connected = [known for known in node.neighbours.values() if known.connected]
    chosen = sum([known.dialled for known in connected])
    most = node.settings.max_connections
    return max(most - len(connected), most // 2 - chosen)


def _is_in_view(node: Node, known: Neighbour) -> bool:
    """Whose updates are wanted is dialled however many others are connected; they are a neighbourhood at most."""
    return known.peer in node.partial_view if node.partial_view else known.latest is not None


def _one_of_each(node: Node, due: list[Neighbour]) -> list[Neighbour]:
    """One dial is left for a stranger, since all I remember may be gone, and one for a friend in a crowd of those."""
    busy = {known.remembered for known in node.neighbours.values() if known.dialling_since is not None}
    first = [next((known for known in due if known.remembered is kind), None) for kind in (False, True)]
    ahead = [known for known in first if known is not None and known.remembered not in busy]
    return [*ahead, *(known for known in due if known not in ahead)]


def _another_first(known: Neighbour) -> tuple[str, ...]:
    """Each attempt begins with another address: the time for a dial may be used up by two that swallow what comes."""
    addresses = direct(known)
    turn = known.dial_attempt % len(addresses)
    return addresses[turn:] + addresses[:turn]


def direct(known: Neighbour) -> tuple[str, ...]:
    """Its addresses without those behind a relay: they are kept and shown, and cannot be dialled."""
    return tuple([address for address in known.addresses if not is_relayed(address)])


def running(node: Node) -> int:
    """Dials that have not been answered; MAX_DIALS at most."""
    return sum([known.dialling_since is not None for known in node.neighbours.values()])


def is_due(node: Node, known: Neighbour) -> bool:
    """Whether a peer may be dialled now."""
    idle = not known.connected and known.dialling_since is None
    wanted = idle and bool(direct(known)) and not is_banned(node, known.peer)
    return wanted and node.at >= known.dial_not_before


def found(node: Node, event: PeerFound) -> Moved:
    """Somebody says where a peer is: kept in the bounded table, behind what the peer itself says.

    One that has moved is dialled within a minute, however long it was not there. One that the user named is as good as
    one that proved good: no crowd of strangers takes its place.
    """
    if event.peer == node.me:
        return node, []
    named = event.how == BY_THE_USER
    node, known = welcome(node, event.peer, connected=named)
    if known is None:
        return node, []
    if named:
        given = frozenset(map(target_of, fitting(*event.addresses)))
        known = replace(known, remembered=True, proven=known.proven | given)
        node = put(node, known)
    addresses = with_hearsay(known, event.addresses)
    if addresses == known.addresses:
        return node, []
    return put(node, replace(known, addresses=addresses, dial_not_before=_sooner(node, known))), []


def when_heard(node: Node, known: Neighbour) -> float:
    """When to dial the peer of a new announcement: at once, if it was silent for long and so has come back."""
    if known.connected or node.at < known.heard_at + SILENT_SECONDS:
        return known.dial_not_before
    return min(known.dial_not_before, node.at)


def connected(node: Node, event: PeerConnected) -> Moved:
    """A connection is up; the newcomer hears my announcement soon."""
    if event.peer == node.me:
        return node, []
    node, known = welcome(node, event.peer, connected=True)
    shut_out: list[AnyEffect] = [Disconnect(peer=event.peer)] if is_banned(node, event.peer) else []
    if known is None:
        return node, shut_out
    dialled = known.dialling_since is not None or (known.connected and known.dialled)
    if dialled:
        node, known = _answered(node, known, event.address)
    since = known.connected_at if known.connected else node.at
    known = replace(known, connected=True, connected_at=since, dialling_since=None, dialled=known.dialled or dialled)
    soon = max(node.at + SETTLE_SECONDS, node.repeated_at + MIN_REPEAT_SECONDS)
    node = replace(node, repeat_at=min(node.repeat_at, soon), alone_is_said=False)
    return put(node, known), shut_out


def _answered(node: Node, known: Neighbour, address: str) -> tuple[Node, Neighbour]:
    """Where I dialled it is proven, and tried first. The other end of an inbound connection is no address to dial."""
    target = target_of(address)
    same = tuple(one for one in known.addresses if target_of(one) == target)
    if not same or is_name(address) or target not in known.proven | known.knocked:
        return node, known
    if target in known.knocked:
        node = replace(node, knocks=node.knocks.returned(address))
    known = replace(known, addresses=fitting(*same, *known.addresses), knocked=known.knocked - {target})
    still = {target_of(one) for one in known.addresses}
    return node, replace(known, proven=(known.proven & still) | {target})


def disconnected(node: Node, event: PeerDisconnected) -> Moved:
    """The connection is gone: dial again soon, unless it never lasts."""
    known = node.neighbours.get(event.peer)
    if known is None or not known.connected:
        return node, []
    known = replace(known, connected=False, dialled=False)
    if node.at >= known.connected_at + STEADY_SECONDS:
        known = replace(known, dial_attempt=0)
    node = put(node, _later(node, known))
    if not any(other.connected for other in node.neighbours.values()):
        others = node.neighbours.values()
        sooner = {other.peer: replace(other, dial_not_before=_sooner(node, other)) for other in others}
        node = replace(node, neighbours=sooner)
    return node, []


def moved(node: Node) -> Moved:
    """My own addresses are others now: a peer that I am not connected with may be near, and hears where I am soon.

    Whom I know to be there is dialled at once, all others within a minute; what is told to whom is connected, too.
    """
    neighbours = {
        peer: known if known.connected else replace(known, dial_not_before=_after_a_move(node, known))
        for peer, known in node.neighbours.items()
    }
    soon = max(node.at, node.repeated_at + MIN_REPEAT_SECONDS)
    return replace(node, neighbours=neighbours, repeat_at=min(node.repeat_at, soon)), []


def _after_a_move(node: Node, known: Neighbour) -> float:
    sooner = _sooner(node, known)
    is_failed_dial = sooner <= node.at + LONELY_DIAL_SECONDS
    return min(sooner, node.at) if (known.remembered or known.proven) and is_failed_dial else sooner


def reconciled(node: Node, event: Ticked) -> Node:
    """The node after its idea of who is connected was compared with the truth, if the tick tells it."""
    if event.connected is None:
        return node
    for peer in [peer for peer, known in node.neighbours.items() if known.connected and peer not in event.connected]:
        node, _ = disconnected(node, PeerDisconnected(at=event.at, peer=peer))
    for peer in sorted(event.connected):
        known = node.neighbours.get(peer)
        if known is None or not known.connected:
            node, _ = connected(node, PeerConnected(at=event.at, peer=peer, address=""))
    return node


def failed(node: Node, event: DialFailed) -> Moved:
    """Nobody answered: wait the longer. An answer to a dial that was given up already changes nothing."""
    known = node.neighbours.get(event.peer)
    if known is None or known.dialling_since is None:
        return node, []
    return put(node, _later(node, known)), []


def expire(node: Node) -> Node:
    """Take dials without an answer for failed."""
    for known in node.neighbours.values():
        if known.dialling_since is not None and node.at > known.dialling_since + DIAL_GRACE_SECONDS:
            node = put(node, _later(node, known))
    return node


def _sooner(node: Node, known: Neighbour) -> float:
    """Within a minute, unless it waits longer than for a failed dial: that has another reason."""
    failed_dial = known.dial_not_before <= node.at + MAX_DIAL_BACKOFF_SECONDS
    return min(known.dial_not_before, node.at + LONELY_DIAL_SECONDS) if failed_dial else known.dial_not_before


def _later(node: Node, known: Neighbour) -> Neighbour:
    lonely = not any(other.connected for other in node.neighbours.values() if other.peer != known.peer)
    longest = LONELY_DIAL_SECONDS if lonely else MAX_DIAL_BACKOFF_SECONDS
    spread = roll(node.lots, "dial", known.peer, known.dial_attempt)
    pause = Backoff(DIAL_BACKOFF_SECONDS, longest).after(known.dial_attempt + 1, spread)
    again = max(known.dial_not_before, node.at + pause)
    tried = known.dial_attempt + 1
    proven = known.proven if tried < PROVEN_TRIES else frozenset[str]()  # somebody else may live there by now
    return replace(known, dialling_since=None, dial_attempt=tried, dial_not_before=again, proven=proven)
