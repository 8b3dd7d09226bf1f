"""Pairs that compare gradients at the middle of their adapters, for trust schemes that ask (`Node.pairing`): CoBo.

Each pair meets in a round with some chance (arXiv 2409.05539: one in the number of peers), drawn by this node's own
lots. Who is drawn is asked one question: its gradient at the middle of two blobs that both hold, mine and its own.

    drawn --AskMiddle--> other peer: MiddleAsked --AnswerMiddle--> its worker, its trust split --> a sketch
                                        | not chosen, busy, absent, asked before
                                        +--RefuseMiddle--> a word
    sketch or word --> my worker compares it with mine --> MiddleCompared: `Node.products`, until the next merge

Nothing waits for any of it. There is one question of mine at a time, and one of others, between two steps of training;
a merge takes what has come, and what comes later goes into the next one. Collecting ends when it would have.

Bounds on what others make me do: one answer for each pair of blobs (asking again tells nobody more), a few a minute to
all askers together and fewer to each, a fifth of the worker's time (after each answer a rest of four times what it
took: on a slow machine one may take a minute), to connected peers alone. Bounds on what others make me wait for: who
was asked longest ago is asked next, so that nobody keeps me from the others; who let me wait in vain is left alone for
ten times as long. A peer that has not chosen such a scheme says so and is left alone for an hour. Whether an answer is
true nobody can see; what it is worth at most is the scheme's affair (`trust.cobo`), as is the guard's what follows.
"""

from __future__ import annotations

from msgspec.structs import replace

from p2pfinetune.names import PeerId
from peerd.core.dice import roll
from peerd.core.effects import AnswerMiddle, AnyEffect, AskMiddle, Candidate, Half, Note, RefuseMiddle
from peerd.core.events import MiddleAnswered, MiddleAsked, MiddleCompared, MiddleFailed
from peerd.core.limits import (
    MAX_MIDDLE_REST_SECONDS,
    MAX_MIDDLE_TRIES,
    MAX_MIDDLES_TOLD,
    MIDDLE_ANSWERS_A_SECOND,
    MIDDLE_ANSWERS_A_SECOND_OF_ONE,
    MIDDLE_ANSWERS_BURST,
    MIDDLE_ANSWERS_BURST_OF_ONE,
    MIDDLE_PAUSE_SECONDS,
    MIDDLE_REST,
    MIDDLE_WAIT,
    NO_MIDDLE_SECONDS,
)
from peerd.core.neighbours import Neighbour
from peerd.core.partial_view import candidates
from peerd.core.state import Moved, Node, PendingMiddle, has_worker, is_banned, put, refuse

NOT_CHOSEN, ABSENT, BUSY, AGAIN = "not-chosen", "absent", "busy", "again"
AFTER_A_WHILE = frozenset({ABSENT, BUSY, "timeout"})
"""Why there was no answer, where there may be one soon: of what has not arrived there yet, above all."""
OF_ANOTHER_KIND = frozenset({NOT_CHOSEN, "refused"})
"""Or not at all: it has another scheme, or is of an older version."""
LIES = frozenset({"malformed", "not-finite", "oversize"})
"""What no honest peer answers."""


def start(node: Node) -> Moved:
    """Ask the next one that this round's lots have drawn. A rule of each step: see `node`."""
    if node.pairing is None or node.meeting is not None or not has_worker(node) or node.own is None:
        return node, []
    chosen = candidates(node)
    chance = node.pairing or 1.0 / (1 + len(chosen))
    mine = Half(digest=node.own.blob, codec=node.own.codec, base=node.own.base)
    for candidate in sorted(chosen, key=lambda candidate: node.neighbours[candidate.peer].met_in):
        known = node.neighbours[candidate.peer]
        if not _may_be_asked(node, known) or known.met == (mine.digest, candidate.digest):
            continue
        if roll(node.lots, "middle", known.peer, node.round) >= chance:
            node = put(node, replace(known, met_in=node.round, met_tries=MAX_MIDDLE_TRIES))
            continue
        return _ask(node, known, mine, candidate)
    return node, []


def _may_be_asked(node: Node, known: Neighbour) -> bool:
    is_open = known.met_in < node.round or known.met_tries < MAX_MIDDLE_TRIES
    return known.connected and is_open and node.at >= known.meet_not_before and not is_banned(node, known.peer)


def _ask(node: Node, known: Neighbour, mine: Half, candidate: Candidate) -> Moved:
    theirs = Half(digest=candidate.digest, codec=candidate.codec, base=candidate.base)
    tries = known.met_tries + 1 if known.met_in == node.round else 1
    number = node.middles + 1
    pending = PendingMiddle(number=number, peer=known.peer, mine=mine, theirs=theirs, asked_at=node.at)
    node = put(node, replace(known, met_in=node.round, met_tries=tries))
    node = replace(node, meeting=pending, middles=number)
    return node, [AskMiddle(number=number, peer=known.peer, mine=mine, theirs=theirs)]


def compared(node: Node, event: MiddleCompared) -> Moved:
    """What came of it is kept for the next merge, beside what came before."""
    pending = node.meeting
    if pending is None or pending.number != event.number:
        return node, []
    node = replace(node, meeting=None)
    known = node.neighbours.get(pending.peer)
    if known is None or is_banned(node, pending.peer):
        return node, []
    met = (pending.mine.digest, pending.theirs.digest)
    node = put(node, replace(known, met=met, met_tries=MAX_MIDDLE_TRIES))
    total = node.products.get(pending.peer, 0.0) + event.product
    return replace(node, products=_bounded(node, {**node.products, pending.peer: total})), []


def _bounded(node: Node, products: dict[PeerId, float]) -> dict[PeerId, float]:
    """Of those who are known still: the table of peers is bounded, and so is this."""
    return {peer: product for peer, product in products.items() if peer in node.neighbours}


def failed(node: Node, event: MiddleFailed) -> Moved:
    """The weight stays as it is. Who may answer soon is asked again; who never will, in an hour."""
    pending = node.meeting
    if pending is None or pending.number != event.number:
        return node, []
    node = replace(node, meeting=None)
    known = node.neighbours.get(pending.peer)
    if known is None:
        return node, []
    if event.reason in LIES:
        return refuse(put(node, replace(known, met_tries=MAX_MIDDLE_TRIES)), known.peer, f"middle-{event.reason}")
    if event.reason in OF_ANOTHER_KIND:
        node = put(node, replace(known, met_tries=MAX_MIDDLE_TRIES, meet_not_before=node.at + NO_MIDDLE_SECONDS))
        said = "a neighbour compares no gradients: it has another --trust, or an older peerd; its weight stays"
        return node, [Note(level="info", message=said, peer=known.peer)]
    again = event.reason in AFTER_A_WHILE
    tries = known.met_tries if again else MAX_MIDDLE_TRIES
    waited = 0.0 if event.reason == "worker" else node.at - pending.asked_at
    pause = max(MIDDLE_PAUSE_SECONDS, MIDDLE_WAIT * waited)
    return put(node, replace(known, met_tries=tries, meet_not_before=node.at + pause)), []


def asked(node: Node, event: MiddleAsked) -> Moved:
    """Somebody else's question: answered, or refused with a word that is counted."""
    known = node.neighbours.get(event.peer)
    taken = _taken(node, known) if known is not None else None
    halves = _halves(node, known, event) if known is not None else None
    reason = _why_not(node, known, event) or (BUSY if taken is None else "") or (ABSENT if halves is None else "")
    if reason or taken is None or halves is None:
        node, effects = refuse(node, event.peer, f"middle-{reason}")
        return node, [RefuseMiddle(number=event.number, reason=reason), *effects]
    (node, known), (mine, theirs) = taken, halves
    pending = PendingMiddle(number=event.number, peer=event.peer, mine=mine, theirs=theirs, asked_at=node.at)
    told = ((mine.digest, theirs.digest), *known.told)[:MAX_MIDDLES_TOLD]
    answer: AnyEffect = AnswerMiddle(number=event.number, peer=event.peer, mine=mine, theirs=theirs)
    return replace(put(node, replace(known, told=told)), answering=pending), [answer]


def _taken(node: Node, known: Neighbour) -> tuple[Node, Neighbour] | None:
    """With one answer less that all, and that peer, may have; None if one of them has none."""
    of_all = node.answers.take(node.at, MIDDLE_ANSWERS_BURST, MIDDLE_ANSWERS_A_SECOND)
    of_one = known.answers.take(node.at, MIDDLE_ANSWERS_BURST_OF_ONE, MIDDLE_ANSWERS_A_SECOND_OF_ONE)
    if of_all is None or of_one is None:
        return None
    return replace(node, answers=of_all), replace(known, answers=of_one)


def _why_not(node: Node, known: Neighbour | None, event: MiddleAsked) -> str:
    if node.pairing is None:
        return NOT_CHOSEN
    if known is None or not known.connected or is_banned(node, known.peer):
        return BUSY
    if node.answering is not None or not has_worker(node):
        return BUSY
    if (event.yours, event.mine) in known.told:
        return AGAIN
    return BUSY if node.at < node.answers_not_before else ""


def _halves(node: Node, known: Neighbour, event: MiddleAsked) -> tuple[Half, Half] | None:
    """My update and the asker's, if they are what it means: my last or the one before, and what I hold of it."""
    own, held = node.own, known.admitted
    if own is None or held is None or held.digest != event.mine:
        return None
    theirs = Half(digest=held.digest, codec=held.codec, base=held.base)
    if event.yours == own.blob:
        return Half(digest=own.blob, codec=own.codec, base=own.base), theirs
    if node.own_before[:1] == (event.yours,):
        base = node.own_before[1] if len(node.own_before) > 1 else None
        return Half(digest=event.yours, codec=own.codec, base=base), theirs
    return None


def answered(node: Node, event: MiddleAnswered) -> Moved:
    """There is room for the next question of others, after a rest."""
    pending = node.answering
    if pending is None or pending.number != event.number:
        return node, []
    return _rested(node, pending), []


def _rested(node: Node, pending: PendingMiddle) -> Node:
    rest = min(MAX_MIDDLE_REST_SECONDS, MIDDLE_REST * (node.at - pending.asked_at))
    return replace(node, answering=None, answers_not_before=node.at + rest)


def expire(node: Node) -> Node:
    """A question without any answer, mine or another's, holds nobody up for ever."""
    if node.meeting is not None and node.at >= node.meeting.gives_up_at:
        node = replace(node, meeting=None)
    if node.answering is not None and node.at >= node.answering.gives_up_at:
        node = _rested(node, node.answering)  # the worker may have it still
    return node
