"""Who is registered where: one step for each message, a function of state, time and dice. It neither listens nor waits.

Everything a stranger can make grow is bounded: networks, peers, addresses, requests. What is over a quota is answered,
not ignored, so that an honest peer knows to come back later.

    (none) -- Register, within quotas --> registered -- lifetime_seconds without another --> (none)
                                             |  again: a new lifetime, always possible
                                             +- the table is full, and its host holds most places: the oldest goes

Two rules against crowds, both by host, since ids are free and addresses are not. *Room:* a full table takes from the
host that has most, for one that has far fewer. *Sampling:* one of each host is told before the second of any, so a
crowd on one machine is one voice among all hosts (Sybil attack, Douceur 2002; eclipse of newcomers).

Requests are counted in fixed windows, not in buckets: one map that is thrown away as a whole needs no tidying.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from operator import itemgetter

import msgspec

from p2pfinetune.names import Digest, PeerId
from peerd.wire.addresses import usable
from peerd.wire.messages import PeerRecord, Register, Sample, Why
from peerd.wire.traits import differences


class Quotas(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit of a node."""

    lifetime_seconds: int = 600
    """Of a registration."""
    peers: int = 4096
    """Registered in all."""
    networks_per_peer: int = 4
    peers_per_host: int = 256
    """Peer ids registered from one IP address: a household, a lab, a demo; not a flood."""
    requests_per_peer: int = 10
    """In one window."""
    requests_per_host: int = 1024
    window_seconds: float = 30.0
    tracked: int = 16_384
    """Requesters remembered within one window; beyond, everybody new is refused until it ends."""


class Registration(msgspec.Struct, frozen=True):
    """One peer in one network."""

    addresses: tuple[str, ...]
    """As it said, without those that nobody could dial; none: it is remembered and not told of."""
    host: str
    """The IP address that it really came from."""
    expires_at: float
    why: Why | None = None
    """What its network is made of, in tags under this node's id; see `peerd.wire.traits`."""


class RequestWindow(msgspec.Struct, frozen=True):
    """How often each peer and each host asked since `began_at`."""

    began_at: float = 0.0
    requests: Mapping[str, int] = {}


Key = tuple[Digest, PeerId]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All that a rendezvous node knows."""

    quotas: Quotas = Quotas()
    registrations: Mapping[Key, Registration] = {}
    """`quotas.peers` at most. None has expired by the time somebody is answered."""
    window: RequestWindow = RequestWindow()
    """`quotas.tracked` names at most."""


def register(
    state: State, now: float, peer: PeerId, host: str, message: Register, dice: random.Random
) -> tuple[State, Sample]:
    """Remember a peer and sample others of its network. `host` is the IP address it really comes from."""
    state, within = _counted(state, now, peer, host)
    if not within:
        return state, Sample(status="quota")
    state = expired(state, now)
    key = (message.network, peer)
    if key not in state.registrations:
        state = _with_room(state, host)
    if (refusal := _refusal(state, key, host)) is not None:
        return state, Sample(status=refusal)
    addresses = tuple(str(address) for address in usable(message.addresses, peer))
    lasting = Registration(addresses, host, now + state.quotas.lifetime_seconds, message.why)
    state = msgspec.structs.replace(state, registrations={**state.registrations, key: lasting})
    peers = sample(state, message.network, peer, message.want, dice)
    others = () if peers else nearest_others(state, peer, message)
    return state, Sample(status="ok", peers=peers, expires_seconds=state.quotas.lifetime_seconds, others=others)


def sample(state: State, network: Digest, asker: PeerId, want: int, dice: random.Random) -> tuple[PeerRecord, ...]:
    """Some others of that network that can be dialled: one of each host, then another of each, hosts equally likely.

    Peer ids are free and hosts are not: else who registers a crowd would be nearly all that a newcomer hears of.
    """
    others = [
        (peer, registration)
        for (where, peer), registration in state.registrations.items()
        if where == network and peer != asker and registration.addresses
    ]
    dice.shuffle(others)
    told: Counter[str] = Counter()
    ranked = []
    for peer, registration in others:
        ranked.append((told[registration.host], PeerRecord(peer=peer, addresses=registration.addresses)))
        told[registration.host] += 1
    ranked.sort(key=itemgetter(0))  # those of one rank stay as they were shuffled
    return tuple(record for _, record in ranked[:want])


def nearest_others(state: State, asker: PeerId, message: Register) -> tuple[str, ...]:
    """In what the network differs that has most in common with the asker's; nothing if no other told of itself."""
    if message.why is None:
        return ()
    found = {
        differences(message.why, registration.why)
        for (where, peer), registration in state.registrations.items()
        if where != message.network and peer != asker and registration.why is not None
    }
    return min(found, key=lambda kinds: (len(kinds), kinds), default=())


def expired(state: State, now: float) -> State:
    """Without the registrations whose time is over."""
    if all(registration.expires_at > now for registration in state.registrations.values()):
        return state
    left = {key: found for key, found in state.registrations.items() if found.expires_at > now}
    return msgspec.structs.replace(state, registrations=left)


def _with_room(state: State, host: str) -> State:
    """Where all places are taken, the host that holds most of them gives up its oldest for one that holds far fewer."""
    if len(state.registrations) < state.quotas.peers:
        return state
    holds = Counter(registration.host for registration in state.registrations.values())
    (crowded, most), *_ = holds.most_common(1)
    if most <= holds[host] + 1:
        return state
    oldest = next(key for key, registration in state.registrations.items() if registration.host == crowded)
    left = {key: registration for key, registration in state.registrations.items() if key != oldest}
    return msgspec.structs.replace(state, registrations=left)


def _refusal(state: State, key: Key, host: str) -> str | None:
    """Why this peer cannot be added; renewing is always possible."""
    if key in state.registrations:
        return None
    if len(state.registrations) >= state.quotas.peers:
        return "full"
    networks = sum(peer == key[1] for _, peer in state.registrations)
    neighbours = sum(registration.host == host for registration in state.registrations.values())
    over = networks >= state.quotas.networks_per_peer or neighbours >= state.quotas.peers_per_host
    return "quota" if over else None


def _counted(state: State, now: float, peer: PeerId, host: str) -> tuple[State, bool]:
    """The state with this request counted, and whether it is within the quotas."""
    window, quotas = state.window, state.quotas
    if now - window.began_at >= quotas.window_seconds:
        window = RequestWindow(began_at=now)
    by_peer, by_host = window.requests.get(f"peer {peer}", 0) + 1, window.requests.get(f"host {host}", 0) + 1
    if len(window.requests) + 2 > quotas.tracked and (by_peer == 1 or by_host == 1):
        return msgspec.structs.replace(state, window=window), False
    window = RequestWindow(window.began_at, {**window.requests, f"peer {peer}": by_peer, f"host {host}": by_host})
    within = by_peer <= quotas.requests_per_peer and by_host <= quotas.requests_per_host
    return msgspec.structs.replace(state, window=window), within
