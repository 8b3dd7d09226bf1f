"""A whole network in virtual time: real cores and stores, fake performers, one seeded queue of things to come.

Nothing sleeps and nothing is random but by the seed, so that a run can be repeated to the event. After every step
the invariants of the core are checked. Later scenarios subclass nothing: they schedule calls with `World.later`.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, assert_never

import msgspec
import pytest

from p2pfinetune.names import Digest, PeerId, Round
from p2pfinetune.round.figures import RoundFigures
from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.node import begin, step
from peerd.core.patience import waited_rounds
from peerd.core.phases import Collecting
from peerd.core.settings import Settings
from peerd.core.state import Node
from peerd.daemon.resume import standing_of
from peerd.store.port import Checkpoint, KeptBan, KnownPeer
from peerd.store.rounds import StoredRound
from peerd.testing.invariants import broken
from peerd.testing.store import MemoryStore
from peerd.wire.messages import Announcement, PeerRecord

NETWORK = Digest("a" * 64)
SIZE = 20_000
EPOCH_SECONDS = 1_700_000_000.0  # of the virtual time's beginning
CONNECT_SECONDS, OPEN_SECONDS, SILENCE_SECONDS = 15.0, 8.0, 40.0  # as the libp2p back end has them


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What the virtual network does to messages and transfers."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_seconds: tuple[float, float] = (0.01, 0.2)
    """A wide span also reorders."""
    fetch_loss: float = 0.0
    one_way_seconds: tuple[float, float] = (0.0, 0.0)
    """Of whatever crosses the network, handshakes included."""


class Peer:
    """One device: its store survives, its process may not."""

    def __init__(self, id_: PeerId) -> None:
        self.id = id_
        self.store = MemoryStore(epoch=0)  # each start begins the next
        self.shelf: set[Digest] = set()
        self.node: Node | None = None  # None: no process
        self.life = 0  # processes so far; answers to an earlier one are lost
        self.worker = 0  # workers so far
        self.worker_free_at = 0.0
        self.connections: set[PeerId] = set()
        self.train_seconds = 20.0
        self.serves = "at once"  # | "never ends" | "corrupt" | "absent"
        self.sends_garbage = False
        self.frozen: list[on.AnyEvent] | None = None  # what a suspended process will find
        self.address = f"/sim/{id_}"  # where it listens; a test may move it
        self.is_puppet = False  # no core of its own: what it does is written in the test
        self.round_began: dict[int, float] = {}
        self.longest_round = 0.0
        self.collecting_since: float | None = None
        self.longest_wait = 0.0
        """From the end of the own work to the end of the round."""
        self.trusts: Callable[[PeerId], bool] = lambda _: True
        self.merged: set[PeerId] = set()
        self.assembled: list[list[PeerId]] = []
        self.notes: list[str] = []
        self.clock_ahead = 0.0  # seconds, of the time that people set
        self.guard: Callable[[int], float] = lambda round_: 3.0 * 0.97**round_

    @property
    def round(self) -> int:
        return 0 if self.node is None else self.node.round

    @property
    def state(self) -> str:
        return "dead" if self.node is None else type(self.node.phase).__name__.lower()


class World:
    """The network. `run(until)` lets virtual time pass."""

    def __init__(self, seed: int = 0, peers: int = 5, settings: Settings | None = None, **faults: Any) -> None:
        self.settings = settings or Settings(collect_seconds=10.0, max_neighbours=8)
        self.faults = Faults(**faults)
        self.dice = random.Random(seed)
        self.now = 0.0
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.scheduled = self.steps = 0
        self.witness: Callable[[Peer, on.AnyEvent], None] = lambda peer, event: None
        self.trace = hashlib.sha256()
        self.peers = {peer.id: peer for peer in (Peer(PeerId(f"peer-{n:04d}")) for n in range(peers))}
        self.sequences: set[tuple[PeerId, int, int]] = set()
        self.announced: dict[PeerId, Announcement] = {}
        self.bad_blobs: set[Digest] = set()
        self.sides: dict[PeerId, int] = {}
        self.unreachable: set[PeerId] = set()
        self.paused_until = 0.0
        self.watch: Callable[[Peer, on.AnyEvent], None] = lambda _peer, _event: None
        self.pairing: float | None = None
        self.questions: list[tuple[Peer, int]] = []
        """About middles: who asked, and the asker's number."""

    # --- time -------------------------------------------------------------------------------------------------------

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self.scheduled += 1
        heapq.heappush(self.queue, (self.now + seconds, self.scheduled, call))

    def run(self, until: float) -> World:
        while self.queue and self.queue[0][0] <= until:
            self.now, _, call = heapq.heappop(self.queue)
            call()
        self.now = until
        return self

    def feed(self, peer: Peer, event: on.AnyEvent) -> None:
        if peer.node is None:
            return
        if peer.frozen is not None:
            peer.frozen.append(event)
            return
        was = peer.node.phase
        self.witness(peer, event)
        node, effects = step(peer.node, event)
        faults = broken(node, effects, peer.node)
        assert not faults, f"{self.now:.2f} {peer.id} after {event}: {faults}"
        peer.node = node
        self.steps += 1
        line = f"{self.now:.4f} {peer.id} {type(event).__name__} {[type(effect).__name__ for effect in effects]}\n"
        self.trace.update(line.encode())
        if isinstance(node.phase, Collecting) and not isinstance(was, Collecting):
            peer.collecting_since = self.now
        if isinstance(event, on.Collaborated) and peer.collecting_since is not None:
            peer.longest_wait = max(peer.longest_wait, self.now - peer.collecting_since)
            peer.collecting_since = None
        self.perform(peer, effects)
        self.watch(peer, event)

    # --- lives ------------------------------------------------------------------------------------------------------

    def start(self, who: Iterable[PeerId] | None = None, spread_seconds: float = 5.0) -> World:
        for id_ in self.peers if who is None else who:
            self.later(self.dice.uniform(0, spread_seconds), partial(self.boot, self.peers[id_]))
        return self

    def add(self, id_: str) -> Peer:
        self.peers[PeerId(id_)] = peer = Peer(PeerId(id_))
        self.boot(peer)
        return peer

    def add_puppet(self, id_: str) -> Peer:
        self.peers[PeerId(id_)] = peer = Peer(PeerId(id_))
        peer.is_puppet = True
        return peer

    def boot(self, peer: Peer) -> None:
        peer.store = peer.store.reopened()
        peer.life += 1
        peer.frozen, peer.collecting_since = None, None
        peer.round_began.clear()
        own = peer.store.announcement()
        peer.node, effects = begin(
            self.settings,
            peer.id,
            self.now,
            known_peers=[PeerRecord(peer=known.peer, addresses=known.addresses) for known in peer.store.peers()],
            seen=peer.store.seen(),
            epoch=peer.store.reserved()[0],
            said_before=peer.store.said_before,
            proven={known.peer: known.proven for known in peer.store.peers()},
            own=None if own is None else msgspec.json.decode(own, type=Announcement),
            standings={ban.peer: standing_of(ban, self.now, self.now) for ban in peer.store.bans()},
        )
        self.perform(peer, effects)
        self.start_worker(peer)
        self.tick(peer, peer.life)
        self.introduce(peer, peer.life)

    def start_worker(self, peer: Peer) -> None:
        peer.worker += 1
        peer.worker_free_at = self.now
        saved = peer.store.checkpoint() or Checkpoint(round=Round(1), trained=False, blob=NETWORK)
        records = peer.store.rounds()
        self.answer(
            peer,
            2.0,
            lambda at: on.WorkerStarted(
                at=at,
                network=NETWORK,
                device="cpu",
                max_blob_bytes={"bf16": 100_000},
                round=saved.round,
                trained=saved.trained,
                best_guard=saved.best_guard,
                pairing=self.pairing,
                is_new=peer.store.checkpoint() is None,
                steps=sum(record.steps for record in records) + saved.trained * self.settings.steps_per_round,
                waited_rounds=waited_rounds((record.guard_personal for record in records), self.settings.min_gain),
            ),
            worker=True,
        )

    def tick(self, peer: Peer, life: int) -> None:
        if peer.life == life and peer.node is not None:
            if peer.frozen is None:
                self.feed(peer, on.Ticked(at=self.now))
            self.later(1.0, lambda: self.tick(peer, life))

    def introduce(self, peer: Peer, life: int) -> None:
        """What a bootstrap node does: now and then, some others at random."""
        if peer.life != life or peer.node is None:
            return
        for other in self.introduced(peer):
            self.feed(peer, on.PeerFound(at=self.now, peer=other.id, addresses=(other.address,), how="bootstrap"))
        self.later(60.0, lambda: self.introduce(peer, life))

    def introduced(self, peer: Peer) -> list[Peer]:
        others = [other for other in self.peers.values() if self.is_there(other) and other is not peer]
        return self.dice.sample(others, min(6, len(others)))

    def is_there(self, peer: Peer) -> bool:
        return peer.node is not None or peer.is_puppet

    def freeze(self, peer: Peer) -> None:
        """SIGSTOP: connections stay up until somebody notices the silence."""
        peer.frozen, life = [], peer.life

        def noticed() -> None:
            if peer.frozen is not None and peer.life == life:
                for id_ in sorted(peer.connections):
                    self.cut(peer, self.peers[id_])

        self.later(SILENCE_SECONDS, noticed)

    def thaw(self, peer: Peer) -> None:
        waiting, peer.frozen = peer.frozen or [], None
        for event in waiting:
            self.feed(peer, event)

    def crash(self, peer: Peer) -> None:
        peer.node = None
        peer.life += 1
        for id_ in sorted(peer.connections):
            self.cut(peer, self.peers[id_])

    def kill_worker(self, peer: Peer) -> None:
        peer.worker += 1
        self.feed(peer, on.WorkerDied(at=self.now, reason="killed"))
        self.start_worker(peer)

    # --- the network ------------------------------------------------------------------------------------------------

    def can_reach(self, one: PeerId, other: PeerId) -> bool:
        there = other in self.peers and self.is_there(self.peers[other]) and other not in self.unreachable
        return there and self.peers[other].frozen is None and self.sides.get(one, 0) == self.sides.get(other, 0)

    def partition(self, *sides: Iterable[PeerId]) -> None:
        self.sides = {id_: number for number, side in enumerate(sides) for id_ in side}
        for peer in self.peers.values():
            for id_ in sorted(peer.connections):
                if not self.can_reach(peer.id, id_):
                    self.cut(peer, self.peers[id_])

    def heal(self) -> None:
        self.sides = {}

    def pause(self, seconds: float) -> None:
        """Nothing crosses any link for so long; a silence that is noticed ends connections, late bytes still arrive."""
        self.paused_until = self.now + seconds
        if seconds > SILENCE_SECONDS:
            self.later(SILENCE_SECONDS, lambda: self.partition(*([id_] for id_ in self.peers)))
            self.later(seconds, self.heal)

    def crossing(self, hops: int = 1) -> float:
        """Seconds for so many ways across the network, one after the other."""
        held = max(0.0, self.paused_until - self.now)
        return held + sum(self.dice.uniform(*self.faults.one_way_seconds) for _ in range(hops))

    def cut(self, one: Peer, other: Peer) -> None:
        for near, far in ((one, other), (other, one)):
            if far.id in near.connections:
                near.connections.discard(far.id)
                self.feed(near, on.PeerDisconnected(at=self.now, peer=far.id))

    def link(self, one: Peer, other: Peer) -> None:
        for near, far in ((one, other), (other, one)):
            if far.id not in near.connections:
                near.connections.add(far.id)
                self.feed(near, on.PeerConnected(at=self.now, peer=far.id, address=far.address))

    def gossip(self, origin: PeerId, announcement: Announcement) -> None:
        """To everybody in reach over whatever connections there are, each by one last hop."""
        reached, frontier = {origin: origin}, [origin]
        while frontier:
            near = frontier.pop()
            if self.peers[near].is_puppet or self.peers[near].frozen is not None:
                continue  # passes nothing on
            for id_ in sorted(self.peers[near].connections):
                if id_ not in reached:
                    reached[id_] = near
                    frontier.insert(0, id_)
        for id_, via in reached.items():
            copies = (self.dice.random() >= self.faults.loss) * (1 + (self.dice.random() < self.faults.duplication))
            for _ in range(copies if id_ != origin else 0):
                self.deliver(self.peers[id_], announcement, via)

    def deliver(self, peer: Peer, announcement: Announcement, via: PeerId) -> None:
        self.answer(
            peer,
            self.dice.uniform(*self.faults.delay_seconds) + self.crossing(),
            lambda at: on.AnnouncementHeard(
                at=at,
                announcement=announcement,
                via=via,
                age_seconds=EPOCH_SECONDS + at + peer.clock_ahead - announcement.time,
            ),
        )

    def answer(
        self, peer: Peer, seconds: float, event: Callable[[float], on.AnyEvent], *, worker: bool = False
    ) -> None:
        """Feed an event later, unless its process (or worker) is gone by then."""
        life, number = peer.life, peer.worker

        def arrive() -> None:
            if peer.life == life and (not worker or peer.worker == number):
                self.feed(peer, event(self.now))

        self.later(seconds, arrive)

    # --- performers -------------------------------------------------------------------------------------------------

    def perform(self, peer: Peer, effects: list[do.AnyEffect]) -> None:
        for effect in effects:
            self.perform_one(peer, effect)

    def perform_one(self, peer: Peer, effect: do.AnyEffect) -> None:
        match effect:
            case do.Train():
                self.train(peer, effect)
            case do.Publish():
                self.answer(peer, 0.5, lambda at: self.publish(peer, effect.round, at), worker=True)
            case do.Repeat():
                self.repeat(peer)
            case do.Fetch():
                self.fetch(peer, effect)
            case do.Admit():
                peer.store.save_seen(effect.peer, *effect.order)
                self.job(peer, 0.05, lambda at: self.admit(effect, at))
            case do.Collaborate():
                self.job(peer, 1.0, lambda at: self.collaborate(peer, effect, at))
            case do.Assemble():
                self.job(peer, 2.0, lambda at: self.assemble(peer, effect, at))
            case do.AskMiddle():
                self.ask_middle(peer, effect)
            case do.AnswerMiddle():
                asker, asked = self.questions[effect.number]
                self.job(peer, 1.0, lambda at: on.MiddleAnswered(at=at, number=effect.number))
                self.answer(asker, 2.0, lambda at: on.MiddleCompared(at=at, number=asked, product=0.1))
            case do.RefuseMiddle():
                asker, asked = self.questions[effect.number]
                self.answer(asker, 0.1, lambda at: on.MiddleFailed(at=at, number=asked, reason=effect.reason))
            case do.Dial():
                self.dial(peer, effect)
            case do.Remember():
                known = KnownPeer(
                    peer=effect.peer, addresses=effect.addresses, last_good_unix=self.now, proven=effect.proven
                )
                peer.store.save_peer(known)
            case do.Forget():
                peer.shelf.difference_update(effect.digests)
            case do.Note():
                peer.notes.append(effect.message)
            case do.CountRefusal():
                peer.store.count_refusal(effect.peer, effect.reason)
            case do.Ban():
                until = self.now + effect.seconds
                ban = KeptBan(
                    peer=effect.peer, until_unix=until, seconds=effect.seconds, bans=effect.bans, reason=effect.reason
                )
                peer.store.save_ban(ban)
            case do.LiftBan():
                peer.store.lift_ban(effect.peer)
            case do.Disconnect():
                if effect.peer in self.peers:
                    self.cut(peer, self.peers[effect.peer])
            case do.Stop():
                self.crash(peer)
            case _:
                assert_never(effect)

    def ask_middle(self, peer: Peer, effect: do.AskMiddle) -> None:
        """A peer that is not there says nothing, ever: the core gives up by itself."""
        self.questions.append((peer, effect.number))
        number, other = len(self.questions) - 1, self.peers[effect.peer]
        mine, yours = effect.mine.digest, effect.theirs.digest
        self.answer(other, 0.1, lambda at: on.MiddleAsked(at=at, peer=peer.id, number=number, mine=mine, yours=yours))

    def job(self, peer: Peer, seconds: float, event: Callable[[float], on.AnyEvent]) -> None:
        """The worker does one thing after another."""
        peer.worker_free_at = max(peer.worker_free_at, self.now) + seconds
        self.answer(peer, peer.worker_free_at - self.now, event, worker=True)

    def train(self, peer: Peer, effect: do.Train) -> None:
        peer.round_began[effect.round] = self.now
        began = peer.round_began.get(effect.round - 1)
        if began is not None:
            peer.longest_round = max(peer.longest_round, self.now - began)

        def trained(at: float) -> on.AnyEvent:
            peer.store.save_checkpoint(Checkpoint(round=effect.round, trained=True, blob=NETWORK))
            return on.Trained(at=at, round=effect.round, steps=effect.steps)

        self.job(peer, peer.train_seconds * self.dice.uniform(0.9, 1.1), trained)

    def publish(self, peer: Peer, round_: Round, at: float) -> on.AnyEvent:
        epoch, sequence = peer.store.reserve_sequence()
        assert (peer.id, epoch, sequence) not in self.sequences, "a sequence number was used twice"
        self.sequences.add((peer.id, epoch, sequence))
        announcement = self.announcement(peer.id, sequence, epoch=epoch, round=round_)
        peer.store.save_announcement(msgspec.json.encode(announcement))
        peer.shelf.add(announcement.blob)
        if peer.sends_garbage:
            self.bad_blobs.add(announcement.blob)
        self.announced[peer.id] = announcement
        self.gossip(peer.id, announcement)
        return on.Published(at=at, announcement=announcement)

    def repeat(self, peer: Peer) -> None:
        """As the performer does it."""
        own = msgspec.json.decode(peer.store.announcement() or b"", type=Announcement)
        own = msgspec.structs.replace(own, time=int(max(0.0, EPOCH_SECONDS + self.now + peer.clock_ahead)))
        if (own.epoch, own.addresses) != (peer.store.reserved()[0], (peer.address,)):
            epoch, sequence = peer.store.reserve_sequence()
            own = msgspec.structs.replace(own, epoch=epoch, sequence=sequence, addresses=(peer.address,))
            peer.store.save_announcement(msgspec.json.encode(own))
            self.answer(peer, 0.0, lambda at: on.Reannounced(at=at, announcement=own))
        self.announced[peer.id] = own
        self.gossip(peer.id, own)

    def announcement(self, peer: str, sequence: int, **fields: Any) -> Announcement:
        blob = Digest(hashlib.sha256(f"{peer} {fields.get('epoch', 1)} {sequence}".encode()).hexdigest())
        usual: dict[str, Any] = {
            "network": NETWORK,
            "epoch": 1,
            "round": 1,
            "codec": "bf16",
            "size": SIZE,
            "blob": blob,
        }
        ahead = self.peers[PeerId(peer)].clock_ahead if peer in self.peers else 0.0
        usual |= {"time": int(EPOCH_SECONDS + self.now + ahead)}
        address = self.peers[PeerId(peer)].address if peer in self.peers else f"/sim/{peer}"
        usual |= {"addresses": (address,), "name": peer}
        return Announcement(peer=PeerId(peer), sequence=sequence, **(usual | fields))

    def fetch(self, peer: Peer, effect: do.Fetch) -> None:
        seconds = 0.0
        reason = "absent"
        wrong: list[tuple[PeerId, str]] = []
        for holder in effect.holders:
            if holder in peer.connections and self.peers[holder].frozen is not None:
                seconds, reason = seconds + OPEN_SECONDS, "unreachable"
            elif not self.can_reach(peer.id, holder):
                seconds, reason = seconds + 2.0, "unreachable"
            elif (opening := self.crossing(4)) > OPEN_SECONDS:
                seconds, reason = seconds + OPEN_SECONDS, "timeout"
            elif self.peers[holder].serves == "never ends":
                seconds, reason = effect.timeout_seconds, "timeout"
            elif effect.digest in self.peers[holder].shelf and self.peers[holder].serves != "absent":
                seconds += self.dice.uniform(0.1, 1.0) + opening + self.crossing(2)
                spoilt = self.peers[holder].serves == "corrupt"
                wrong += [(holder, "corrupt")] * spoilt
                reason = "corrupt" if spoilt else "lost" if self.dice.random() < self.faults.fetch_loss else ""
            else:
                seconds += 0.1
            if not reason or seconds >= effect.timeout_seconds:
                break
        seconds = min(seconds, effect.timeout_seconds)
        if reason:
            failed = on.FetchFailed(at=0, peer=effect.peer, digest=effect.digest, reason=reason, wrong=tuple(wrong))
            self.answer(peer, seconds, lambda at: msgspec.structs.replace(failed, at=at))
            return

        def fetched(at: float) -> on.AnyEvent:
            if not self.can_reach(peer.id, holder):  # gone meanwhile
                return on.FetchFailed(at=at, peer=effect.peer, digest=effect.digest, reason="unreachable")
            peer.shelf.add(effect.digest)
            return on.BlobFetched(
                at=at, bytes_in=effect.size, peer=effect.peer, digest=effect.digest, wrong=tuple(wrong)
            )

        self.answer(peer, seconds, fetched)

    def admit(self, effect: do.Admit, at: float) -> on.AnyEvent:
        if effect.digest in self.bad_blobs:
            return on.UpdateRefused(at=at, peer=effect.peer, digest=effect.digest, reason="not-finite")
        return on.UpdateAdmitted(at=at, peer=effect.peer, digest=effect.digest)

    def collaborate(self, peer: Peer, effect: do.Collaborate, at: float) -> on.AnyEvent:
        assert {candidate.digest for candidate in effect.candidates} <= peer.shelf, "merging a blob that is gone"
        others = [candidate.peer for candidate in effect.candidates]
        peer.merged.update(others)
        trusted = [id_ for id_ in others if peer.trusts(id_)]
        row = dict.fromkeys(others, 0.0) | dict.fromkeys((peer.id, *trusted), 1.0 / (1 + len(trusted)))
        guard = peer.guard(effect.round)
        record = StoredRound(
            round=effect.round,
            finished_unix=at,
            loss_train=None,
            loss_trust=None,
            guard_base=None,
            guard_own=guard,
            guard_personal=guard,
            guard_twin=None,
            row=row,
            accepted=True,
            reason="",
            steps=self.settings.steps_per_round,
            bytes_in=0,
            bytes_out=0,
        )
        following = Checkpoint(round=Round(effect.round + 1), trained=False, blob=NETWORK, best_guard=guard)
        peer.store.save_checkpoint(following, record)
        figures = RoundFigures(guard_own=guard, guard_personal=guard)
        return on.Collaborated(
            at=at, round=effect.round, row=row, accepted=True, reason="", figures=figures, best_guard=guard
        )

    def assemble(self, peer: Peer, effect: do.Assemble, at: float) -> on.AnyEvent:
        """Of all whose blobs are here; recorded as round 0."""
        assert {digest for one in effect.candidates for digest in one.blobs} <= peer.shelf, "a piece that is gone"
        row = {peer.id: 0.0} | {one.peer: 1.0 / len(effect.candidates) for one in effect.candidates}
        peer.assembled.append(sorted(one.peer for one in effect.candidates))
        figures = RoundFigures(guard_own=9.0, guard_personal=8.5)
        record = StoredRound.of(
            figures, round=Round(0), finished_unix=at, row=row, accepted=True, reason="", steps=0, bytes_in=0,
            bytes_out=0,
        )  # fmt: skip
        peer.store.save_checkpoint(Checkpoint(round=Round(1), trained=False, blob=NETWORK, best_guard=8.5), record)
        return on.Assembled(at=at, row=row, accepted=True, figures=figures)

    def dial(self, peer: Peer, effect: do.Dial) -> None:
        seconds = self.dice.uniform(0.05, 0.5) + self.crossing(6)

        def arrive() -> None:
            there = self.can_reach(peer.id, effect.peer) and self.peers[effect.peer].address in effect.addresses
            if seconds < CONNECT_SECONDS and there:
                self.link(peer, self.peers[effect.peer])
            else:
                self.feed(peer, on.DialFailed(at=self.now, peer=effect.peer, reason="unreachable"))

        life = peer.life
        self.later(min(seconds, CONNECT_SECONDS), lambda: arrive() if peer.life == life else None)


@pytest.fixture
def world() -> type[World]:
    """The class, since test files of this tree cannot be imported."""
    return World
