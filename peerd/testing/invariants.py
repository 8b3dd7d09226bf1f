"""What must hold of a node after every step, whatever happened. Run in tests, simulations and, if asked, in a daemon.

Three kinds: bounds (no stranger makes anything grow beyond `peerd.core.limits`), what binds the fields of one peer, and
what may be asked of the world (nothing of a banned peer, no job without a worker, no blob deleted that is needed). Each
is a sentence when it fails, so that a falsified property says what is wrong and not only that something is.

They are stated over states and effects, not over how the core gets there; so they stay when a rule is rewritten, and
random lists of events (property-based testing) look for one that breaks them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from peerd.core import dials
from peerd.core.effects import (
    Admit,
    AnswerMiddle,
    AnyEffect,
    AskMiddle,
    Assemble,
    Collaborate,
    Dial,
    Fetch,
    Forget,
    Publish,
    Train,
)
from peerd.core.fetches import running
from peerd.core.limits import MAX_DIALS, MAX_FETCHES, MAX_GARBAGE, MAX_KNOWN_PEERS, MAX_REASONS, MAX_SEEN, MAX_STANDINGS
from peerd.core.neighbours import Neighbour
from peerd.core.partial_view import awaited
from peerd.core.phases import Collecting, Gathering, Resting, Starting, Stopping, Training
from peerd.core.quota import held_at_most
from peerd.core.state import Node, is_banned, needed
from peerd.wire.messages import MAX_ADDRESSES, MAX_NAME


def broken(node: Node, effects: Sequence[AnyEffect] = (), before: Node | None = None) -> tuple[str, ...]:
    """Sentences about what does not hold; empty if all is well. Peers unchanged since `before` are not checked."""
    return (*_bounds(node), *_peers(node, before), *_waits(node), *_effects(node, effects))


def _bounds(node: Node) -> Iterator[str]:
    for what, size, limit in (
        ("known peers", len(node.neighbours), MAX_KNOWN_PEERS),
        ("orders of peers that left", len(node.seen), MAX_SEEN),
        ("standings", len(node.standings), MAX_STANDINGS),
        ("blobs to delete", len(node.garbage), MAX_GARBAGE),
        ("refusal words", len(node.refused), MAX_REASONS),
        ("fetches at once", running(node), MAX_FETCHES),
        ("dials at once", dials.running(node), MAX_DIALS),
        ("wanted peers", len(node.partial_view), node.settings.max_neighbours),
        ("admitted updates", sum(k.admitted is not None for k in node.neighbours.values()), held_at_most(node)),
        ("agreements", len(node.products), MAX_KNOWN_PEERS),
        ("trust row", len(node.row), node.settings.max_neighbours + 1),
    ):
        if size > limit:
            yield f"{what}: {size} are more than {limit}"


def _peers(node: Node, before: Node | None) -> Iterator[str]:
    if node.me in node.neighbours:
        yield "I am my own neighbour"
    checked = before.neighbours if before is not None and type(before.phase) is type(node.phase) else {}
    for peer, known in node.neighbours.items():
        if checked.get(peer) is known:
            continue
        if known.peer != peer:
            yield f"{peer} is filed under another name"
        yield from (f"{peer}: {fault}" for fault in _faults(node, known))


def _faults(node: Node, known: Neighbour) -> Iterator[str]:
    if len(known.addresses) > MAX_ADDRESSES or len(known.name) > MAX_NAME or len(known.refused) > MAX_REASONS:
        yield "something it said is kept without bound"
    if known.latest is not None and (known.latest.network != node.network or known.latest.peer != known.peer):
        yield "an announcement of another network or peer was taken"
    if known.latest is not None and known.latest.order > known.seen:
        yield "a taken announcement could be replayed"
    if known.admitted is not None and known.latest is not None and known.admitted.order > known.latest.order:
        yield "an update is newer than any announcement"
    if known.latest is not None and known.latest.base is not None and known.latest.codec not in node.difference_codecs:
        yield "a difference was taken of a codec that knows none"
    if known.connected and known.dialling_since is not None:
        yield "dialled though connected"
    if known.transfer is not None and known.transfer.stage == "inspecting" and isinstance(node.phase, Starting):
        yield "inspected by a worker that is not there"


def _waits(node: Node) -> Iterator[str]:
    match node.phase:
        case Collecting(deadline=deadline):
            if node.at >= deadline or not awaited(node):
                yield "collecting goes on without a reason"
        case Gathering(deadline=deadline) if node.at >= deadline:
            yield "a newcomer gathers beyond its deadline"
        case Training(round=round_) if round_ != node.round:
            yield "trains another round than its own"
        case Resting(fresh_since=float() as since) if node.at >= since + node.settings.collect_seconds:
            yield "a rest's collecting goes on for too long"
        case _:
            pass


def _effects(node: Node, effects: Sequence[AnyEffect]) -> Iterator[str]:
    jobs = [effect for effect in effects if isinstance(effect, Train | Publish | Collaborate | Assemble)]
    if len(jobs) > 1:
        yield "two jobs of a round at once"
    if isinstance(node.phase, Starting | Stopping) and (jobs or any(isinstance(e, Admit) for e in effects)):
        yield "a job for a worker that is not there"
    for effect in effects:
        match effect:
            case AskMiddle() | AnswerMiddle():
                yield from _middle_faults(node, effect)
            case Fetch(peer=peer) | Dial(peer=peer) | Admit(peer=peer) if is_banned(node, peer):
                yield "something is wanted of a banned peer"
            case Collaborate(candidates=candidates) | Assemble(candidates=candidates) if any(
                is_banned(node, c.peer) for c in candidates
            ):
                yield "a banned peer takes part in a merge"
            case Fetch(holders=holders) if not holders or node.me in holders or len(set(holders)) < len(holders):
                yield "a fetch from nobody, from myself, or twice from one"
            case Dial(peer=peer, addresses=addresses) if not addresses or peer == node.me:
                yield "a dial to nowhere or to myself"
            case Collaborate(candidates=candidates) | Assemble(candidates=candidates):
                yield from _merge_faults(node, Counter(candidate.peer for candidate in candidates))
            case _:
                pass
        yield from _blob_faults(node, effect)


def _blob_faults(node: Node, effect: AnyEffect) -> Iterator[str]:
    """Of updates and of the bases that they are differences to."""
    match effect:
        case Fetch(size=size) if size > max(node.max_blob_bytes.values(), default=0):
            yield "more is fetched than any update or base can have"
        case Admit(digest=digest, base=base) if not {digest, base or digest} <= needed(node):
            yield "what is inspected may be deleted meanwhile"
        case Collaborate(candidates=candidates) if not needed(node).issuperset(d for c in candidates for d in c.blobs):
            yield "what is merged may be deleted meanwhile"
        case Forget(digests=digests) if needed(node).intersection(digests):
            yield "a blob that is needed is deleted"
        case _:
            pass


def _middle_faults(node: Node, effect: AskMiddle | AnswerMiddle) -> Iterator[str]:
    if node.pairing is None or isinstance(node.phase, Starting | Stopping):
        yield "gradients are compared without a scheme or a worker for it"
    if is_banned(node, effect.peer) or effect.peer == node.me:
        yield "a gradient is compared with a banned peer, or with myself"
    if not needed(node).issuperset((*effect.mine.blobs, *effect.theirs.blobs)):
        yield "a blob of a middle may be deleted"


def _merge_faults(node: Node, peers: Counter[str]) -> Iterator[str]:
    if any(count > 1 for count in peers.values()) or node.me in peers:
        yield "a peer merges twice, or I with myself"
    if len(peers) > node.settings.max_neighbours:
        yield "more neighbours merge than were allowed"
