"""Which blobs are fetched, from whom and when; what is done with what comes or does not come.

An announcement is 4 KB of gossip, and the blob that it names is megabytes; so gossip floods the first, and only peers
of the partial view have the second pulled (the lazy push of Plumtree, and IHAVE/IWANT of gossipsub, have this shape). A
blob is named by its digest, so it may come from anybody that holds it: the origin is asked first, then
`MAX_OTHER_HOLDERS` others, other ones for each blob and each asker, so that a rare blob has no rush on one holder.

A transfer (`neighbours.Transfer`, at most one for each peer):

              start: wanted, in quota, a place free
    (none) -------- its base first, if it is a difference to one that is not held ------+
      |                                                                                  v
      +--------------------------------------------> fetching  <--- the base is here -- fetching-base
      ^                                                  |    |                          |
      | <------------------------------------------------|----|---- FetchFailed ---------+
      |   FetchFailed, or no answer until `gives_up_at`  |    | BlobFetched: it hashes to its digest
      +--------------------------------------------------+    v
      |                                                    fetched --- worker is there ---> inspecting
      |                                                                                      |    |
      |   UpdateRefused (a strike), the worker died, the disk lost it (FetchFailed)          |    |
      +--------------------------------------------------------------------------------------+    |
      |   UpdateAdmitted: `Neighbour.admitted`, and what was admitted before is garbage           |
      +-------------------------------------------------------------------------------------------+

An update may be a difference to another blob, its base, which is a whole update: a key frame of its peer. A base has
no base of its own, so that nothing is ever fetched but two blobs, each within the same bound and both charged to the
quota of the peer. Most often the base is what was admitted before, or the base of that (`Neighbour.holds`): one base a
neighbour is kept, as long as the update that needs it. A base that cannot be had is counted once (`no-base`), and
differences to it are not tried again: the peer's next key frame comes soon.

What failed is tried again after a doubling pause, `MAX_FETCH_TRIES` times for one announcement; a newer announcement
begins anew. Blame follows proof: wrong bytes are held against who gave them, a wrong size against who announced it, and
a failure in which the origin was not asked says nothing about the origin.

Newcomers (no weight in my last trust row) share `MAX_NEWCOMER_FETCHES` of `MAX_FETCHES` places: strangers that send
slowly on purpose cannot keep those from me whose updates I use. The quota is charged when a fetch begins, not when it
ends, so that failing at the last byte is not free.
"""

from __future__ import annotations

from msgspec.structs import replace

from p2pfinetune.names import Digest, PeerId
from peerd.core.dice import roll
from peerd.core.effects import Admit, AnyEffect, Fetch, Remember
from peerd.core.events import BlobFetched, FetchFailed, UpdateAdmitted, UpdateRefused
from peerd.core.limits import (
    FETCH_BACKOFF_SECONDS,
    FETCH_GRACE_SECONDS,
    MAX_FETCH_BACKOFF_SECONDS,
    MAX_FETCH_SECONDS,
    MAX_FETCH_TRIES,
    MAX_FETCHES,
    MAX_NEWCOMER_FETCHES,
    MAX_OTHER_HOLDERS,
    MIN_BYTES_A_SECOND,
    OTHERS_PAUSE_SECONDS,
    REMEMBER_SECONDS,
)
from peerd.core.neighbours import Neighbour, Transfer, Update
from peerd.core.partial_view import partial_view
from peerd.core.quota import charged, within_disk
from peerd.core.state import Moved, Node, discard, has_worker, is_banned, put, refuse, throttled
from peerd.pacing import Backoff
from peerd.wire.messages import Announcement

NO_BASE = "no-base"
"""What an update is refused for that is a difference to a blob which nobody has."""


def start(node: Node) -> Moved:
    """Begin what fetches are wanted and possible now. Good standing first, the reliable, who waits longest."""
    effects: list[AnyEffect] = []
    free = MAX_FETCHES - running(node)
    if free <= 0 or not any(wants(node, known) for known in node.neighbours.values()):
        return node, effects
    free_for_newcomers = MAX_NEWCOMER_FETCHES - sum([_is_newcomer(node, known) for known in _fetching(node)])
    wanting = [known for known in partial_view(node) if wants(node, known)]
    wanting.sort(key=lambda known: (throttled(node, known.peer), known.unreliability, known.heard_at, known.peer))
    for known in wanting:
        said = known.latest
        holders = _holders(node, known)
        rest = charged(node, known, _size(known, said)) if said is not None else None
        is_newcomer = _is_newcomer(node, known)
        if said is None or rest is None or not holders or free <= 0 or (is_newcomer and free_for_newcomers <= 0):
            continue
        transfer = Transfer(
            announcement=said,
            heard_at=known.heard_at,
            gives_up_at=node.at,
            holders=holders,
            asks_origin=known.peer in holders,
            stage="fetching" if known.holds(said.base) else "fetching-base",
        )
        node, fetch = _asked(put(node, replace(known, transfer=transfer, quota=rest)), known.peer, transfer)
        effects.append(fetch)
        free -= 1
        free_for_newcomers -= is_newcomer
    return node, effects


def _size(known: Neighbour, said: Announcement) -> int:
    """Bytes to be fetched for an update."""
    return said.size if known.holds(said.base) else said.size + said.base_size


def _asked(node: Node, peer: PeerId, transfer: Transfer) -> tuple[Node, Fetch]:
    """The fetch of what the transfer stands at, and a deadline for it."""
    said = transfer.announcement
    digest, size = said.key_frame if transfer.stage == "fetching-base" else (said.blob, said.size)
    timeout = timeout_seconds(node, size)
    transfer = replace(transfer, gives_up_at=node.at + timeout + FETCH_GRACE_SECONDS)
    node = put(node, replace(node.neighbours[peer], transfer=transfer))
    return node, Fetch(peer=peer, digest=digest, size=size, holders=transfer.holders, timeout_seconds=timeout)


def running(node: Node) -> int:
    """Fetches that have not been answered."""
    return len(_fetching(node))


def _fetching(node: Node) -> list[Neighbour]:
    return [n for n in node.neighbours.values() if n.transfer is not None and n.transfer.is_fetching]


def _is_newcomer(node: Node, known: Neighbour) -> bool:
    return node.row.get(known.peer, 0.0) <= 0.0


def wants(node: Node, known: Neighbour) -> bool:
    """Whether the newest announcement of a peer is to be fetched now."""
    if known.latest is None or known.transfer is not None or known.fetch_failures >= MAX_FETCH_TRIES:
        return False
    if known.lacks_base and not known.holds(known.lost_base):
        return False
    if known.admitted is not None and known.admitted.order >= known.latest.order:
        return False
    return node.at >= known.fetch_not_before


def timeout_seconds(node: Node, size: int) -> float:
    """A round's patience, or longer if the blob is large for a slow line."""
    return min(MAX_FETCH_SECONDS, max(node.settings.collect_seconds, size / MIN_BYTES_A_SECOND))


def _holders(node: Node, known: Neighbour) -> tuple[PeerId, ...]:
    """The origin first; then a few others, not the same for everybody. Who is not connected is not asked.

    Else it would be dialled for the blob, and knocking is for `dials` alone, which counts it.
    """
    if known.latest is None:
        return ()
    spread = int(known.latest.blob[:8], 16)  # another choice for each blob, and by the lots for each asking peer
    others = sorted(
        (other.lot * spread % 1.0, other.peer)
        for other in node.neighbours.values()
        if other.connected and other.latest is not None and other.peer != known.peer and not is_banned(node, other.peer)
    )
    chosen = tuple(peer for _, peer in others[:MAX_OTHER_HOLDERS])
    if known.connected:
        return (known.peer, *chosen)
    return chosen if node.at >= known.others_not_before else ()


def fetched(node: Node, event: BlobFetched) -> Moved:
    """The blob is here: let the worker look at it, as soon as there is one. Of a base, fetch what needs it."""
    node, blamed = _blamed(node, event)
    known = _waiting(node, event.peer, event.digest, "fetching-base", "fetching")
    if known is None or known.transfer is None:
        return discard(node, [event.digest]), blamed
    if known.transfer.stage == "fetching-base":
        node, fetch = _asked(node, known.peer, replace(known.transfer, stage="fetching"))
        return node, [*blamed, fetch]
    node = put(node, replace(known, transfer=replace(known.transfer, stage="fetched")))
    node, effects = inspect(node) if has_worker(node) else (node, [])
    return node, blamed + effects


def inspect(node: Node) -> Moved:
    """Hand every fetched blob to the worker, which must be there (`state.has_worker`)."""
    effects: list[AnyEffect] = []
    for known in node.neighbours.values():
        transfer = known.transfer
        if transfer is None or transfer.stage != "fetched":
            continue
        node = put(node, replace(known, transfer=replace(transfer, stage="inspecting")))
        said = transfer.announcement
        effects.append(Admit(peer=known.peer, digest=said.blob, codec=said.codec, base=said.base, order=said.order))
    return node, effects


def failed(node: Node, event: FetchFailed) -> Moved:
    """Try again later, a few times. Late answers, of a transfer that was given up, change nothing but the blame."""
    node, blamed = _blamed(node, event)
    # our disk may lose what was fetched
    known = _waiting(node, event.peer, event.digest, "fetching-base", "fetching", "inspecting")
    if known is None:
        return node, blamed
    lied = any(holder == known.peer for holder, _ in event.wrong)
    if known.transfer is not None and known.transfer.stage == "inspecting" and known.admitted is not None:
        node = discard(node, known.admitted.blobs)  # it may be the base that the disk lost: that is fetched again, too
        known = replace(known, admitted=None if known.transfer.announcement.base else known.admitted)
    node, counted = _put_off(node, replace(known, strikes=known.strikes + lied))
    return node, blamed + counted


def _put_off(node: Node, known: Neighbour) -> Moved:
    """The transfer is given up for now. What was fetched of it by halves goes; a base that cannot be had is counted."""
    transfer = known.transfer
    node = put(node, after := _later(node, known))
    if transfer is None or transfer.announcement.base is None:
        return node, []
    if transfer.stage != "fetching-base":
        return discard(node, transfer.announcement.blobs), []
    if after.fetch_failures < MAX_FETCH_TRIES:
        return node, []
    node = put(node, replace(after, lost_base=transfer.announcement.base))
    return refuse(node, known.peer, NO_BASE)


def _blamed(node: Node, event: BlobFetched | FetchFailed) -> Moved:
    """Wrong bytes are held against whoever gave them, another size against whoever announced it.

    So nobody spoils the name of a peer by lying about its blobs, or of a holder by announcing them as something else.
    """
    effects: list[AnyEffect] = []
    for holder, reason in event.wrong:
        if reason == "corrupt" or holder == event.peer:
            node, counted = refuse(node, holder, reason)
            effects += counted
    return node, effects


def admitted(node: Node, event: UpdateAdmitted) -> Moved:
    """The update may be used; its predecessor is garbage; its peer is a good one."""
    known = _waiting(node, event.peer, event.digest, "inspecting")
    if known is None or known.transfer is None:
        return discard(node, [event.digest]), []
    old, said = known.admitted, known.transfer.announcement
    if known.latest is not None and (known.latest.blobs, known.latest.codec) == (said.blobs, said.codec):
        said = known.latest  # announced again meanwhile under a newer number
    update = Update(
        digest=said.blob,
        codec=said.codec,
        base=said.base,
        round=said.round,
        order=said.order,
        heard_at=known.transfer.heard_at,
        first_heard_at=known.transfer.heard_at,
        admitted_at=node.at,
    )
    known = replace(known, admitted=update, transfer=None, strikes=0, missed=0, fetch_not_before=node.at)
    node = put(node, known)
    if old is not None:
        node = discard(node, [digest for digest in old.blobs if digest not in update.blobs])
    return _remembered(within_disk(node), known)


def refused(node: Node, event: UpdateRefused) -> Moved:
    """The update is no good: nobody asks for this one again, and the next one waits the longer."""
    known = _waiting(node, event.peer, event.digest, "inspecting")
    if known is None or known.transfer is None:
        return discard(node, [event.digest]), []
    gone = known.transfer.announcement.blobs
    known = _later(node, replace(known, strikes=known.strikes + 1))
    node = discard(put(node, _without(known, event.digest)), gone)
    return refuse(node, event.peer, event.reason)


def set_aside(node: Node, peer: PeerId, reason: str) -> Moved:
    """The update that my last merge had from a peer was odd beside the others: it is used no more."""
    known = node.neighbours.get(peer)
    if known is not None and known.admitted is not None and not known.is_fresh:
        gone = known.admitted
        node = discard(put(node, _without(replace(known, admitted=None), gone.digest)), gone.blobs)
    return refuse(node, peer, reason)


def _without(known: Neighbour, digest: Digest) -> Neighbour:
    """Give up `latest` if it names this very blob; a newer one may still be tried."""
    said: Announcement | None = known.latest
    return replace(known, fetch_failures=MAX_FETCH_TRIES) if said is not None and said.blob == digest else known


def worker_lost(node: Node) -> Node:
    """Nobody will answer for what was being inspected; since it may be what killed the worker, it has to wait."""
    for known in node.neighbours.values():
        if known.transfer is not None and known.transfer.stage == "inspecting":
            node, _ = _put_off(node, known)
    return node


def expire(node: Node) -> Moved:
    """Take fetches without an answer for failed, and drop admitted updates that are too old to be used."""
    effects: list[AnyEffect] = []
    oldest = node.at - node.settings.staleness_seconds
    for known in node.neighbours.values():
        transfer, update = known.transfer, known.admitted
        if transfer is not None and transfer.is_fetching and node.at > transfer.gives_up_at:
            node, counted = _put_off(node, known)
            effects += counted
        if update is not None and update.heard_at < oldest:
            node = discard(put(node, replace(node.neighbours[known.peer], admitted=None)), update.blobs)
    return node, effects


def _waiting(node: Node, peer: PeerId, digest: Digest, *stages: str) -> Neighbour | None:
    """The peer, if an answer about this blob is really waited for; None for what comes late or was never asked."""
    known = node.neighbours.get(peer)
    if known is None or known.transfer is None:
        return None
    fits = known.transfer.awaits == digest and known.transfer.stage in stages
    return known if fits else None


def _later(node: Node, known: Neighbour) -> Neighbour:
    """Without its transfer, to be tried after a pause, which strikes make longer."""
    if known.transfer is not None and known.transfer.is_fetching and not known.transfer.asks_origin:
        return replace(known, transfer=None, others_not_before=node.at + OTHERS_PAUSE_SECONDS)
    tries = known.fetch_failures + known.strikes
    spread = roll(node.lots, "fetch", known.peer, tries)
    pause = Backoff(FETCH_BACKOFF_SECONDS, MAX_FETCH_BACKOFF_SECONDS).after(tries + 1, spread)
    return replace(known, transfer=None, fetch_failures=known.fetch_failures + 1, fetch_not_before=node.at + pause)


def _remembered(node: Node, known: Neighbour) -> Moved:
    due = known.remembered_at is None or node.at - known.remembered_at >= REMEMBER_SECONDS
    if not known.addresses or not due:
        return node, []
    node = put(node, replace(known, remembered=True, remembered_at=node.at))
    return node, [Remember(peer=known.peer, addresses=known.addresses, proven=tuple(sorted(known.proven)))]
