"""The snapshot that everyone reads, made from what the parts of the daemon say of themselves. Pure.

Each part says its own figures (`Parts`), and here they become one document; so the page, `peerd status`, the API and
metrics cannot disagree, and a part knows nothing of how it is shown. It is made when somebody asks and never kept:
there is no second state that could be stale.

Health has two kinds of finding. A *problem* makes health false, and names what a person can do; a *notice* is worth
knowing and harms nothing. What strangers can bring about alone (somebody of another network knocks, a clock is said to
be wrong by peers that nobody trusts) is a notice at most, or they could raise an alarm on a machine that is well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from p2pfinetune.names import PeerId
from p2pfinetune.round.figures import RoundFigures
from p2pfinetune.scoring.perplexity import bounded, has_diverged, perplexity
from peerd import __version__
from peerd.config import Config
from peerd.control import merges
from peerd.control.assembly import assembly_now
from peerd.control.figures import contradiction
from peerd.control.peer_names import clean
from peerd.control.render import some
from peerd.control.worth import worth_now
from peerd.core import clocks, doubles, outlook
from peerd.core.neighbours import Neighbour
from peerd.core.newcomer import DONE
from peerd.core.phases import Resting, Starting, Stopping
from peerd.core.state import Node
from peerd.daemon import misfits, reach
from peerd.daemon.privacy_in_words import privacy_now
from peerd.net.transport import Met, PeerTraffic
from peerd.status import (
    BannedNow,
    FailuresNow,
    HealthNow,
    HeldOutNow,
    LoopNow,
    LossNow,
    MergesNow,
    NeighbourNow,
    PerplexityNow,
    RoundRecord,
    SentNow,
    Status,
    TextNow,
    TrafficNow,
    WorkerNow,
)
from peerd.store.sent import Spending
from peerd.wire.addresses import Address

STUCK_SECONDS = 900.0  # without a finished round, whatever the last one took
STUCK_ROUNDS = 10.0  # in units of what the last round took
FRESH_FAILURE_SECONDS = 900.0  # how long health speaks of a failure that nobody foresaw
SHOWN_AS_MINUTES = 120.0  # seconds
_NO_PEER = (
    "No peer of this network answers at the addresses given with --peer. Check that one runs there, with the same "
    "--group, --group-key and --model, and that the port is right: without --listen it changes with every start"
)
_OTHER_VERSION = (
    "{count} in another version of the protocol could not be read. Compare the versions, and update the older one: "
    "peerd --version"
)
LONELY_SECONDS = 60.0  # dialling takes up to 15 s an address, and the first pauses are short


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into a snapshot besides the node."""

    at: float
    """Monotonic seconds, as in events."""
    began_at: float
    config: Config
    worker: WorkerNow
    loop: LoopNow
    figures: RoundFigures
    traffic: Mapping[PeerId, PeerTraffic]
    addresses: tuple[str, ...]
    troubles: Sequence[str] = ()
    """Sentences about network, disk and text, with what to do."""
    notices: Sequence[str] = ()
    """Sentences that say nothing is wrong, and yet should be known."""
    dropped: int = 0
    """TransportEvents that found the shell too busy."""
    turned_away: Mapping[str, int] = {}
    """What the network counted of strangers."""
    lonely: Sequence[str] = ()
    """What is wrong with each bootstrap node and peer that a person named; matters while no peer is connected."""
    mistaken: Sequence[str] = ()
    """Of that, what does not pass by itself."""
    met: Mapping[str, Met] = {}
    """Who was met and could not be joined, by kind; matters while no peer is connected."""
    differs: Collection[str] = ()
    """Kinds of those that a person named, of whom it is said already."""
    others: Sequence[str] = ()
    """What bootstrap nodes say of other networks; likewise."""
    registered: Sequence[Address] = ()
    """Bootstrap nodes that answered."""
    spending: Spending = Spending(since_unix=0.0)
    """What all publications come to."""
    sent_bytes: int = 0
    """Ever."""
    sent_peers: int = 0
    records: Sequence[RoundRecord] = ()
    """Finished rounds, oldest first."""
    failures: FailuresNow = FailuresNow()
    text: TextNow = TextNow()
    """Of the last reading."""
    before: str = ""
    """How the run before ended, if that was not in order."""


def _sentence(node: Node, worker: WorkerNow) -> str:
    """The core's, and of a large text how far its first reading is."""
    said = outlook.sentence(node)
    return f"{said}; {worker.reading}" if worker.reading else said


def snapshot(node: Node, parts: Parts) -> Status:
    """Everything a person asks first."""
    config, merged = parts.config, merges.merges_now(parts.records, node.me)
    return Status(
        peer_id=node.me,
        name=config.name,
        version=__version__,
        network=node.network,
        group=config.group,
        uptime_seconds=round(parts.at - parts.began_at, 1),
        round=node.round,
        state=outlook.state(node),
        sentence=_sentence(node, parts.worker),
        loss=LossNow(
            train=bounded(parts.figures.loss_train),
            trust=bounded(parts.figures.loss_trust),
            guard=bounded(parts.figures.guard_personal),
        ),
        perplexity=PerplexityNow(
            base=perplexity(parts.figures.guard_base),
            own=perplexity(parts.figures.guard_own),
            personal=perplexity(parts.figures.guard_personal),
            twin=perplexity(parts.figures.guard_twin),
        ),
        neighbours=neighbours(node, parts, merged),
        traffic=TrafficNow(
            bytes_in=sum(row.bytes_in for row in parts.traffic.values()),
            bytes_out=sum(row.bytes_out for row in parts.traffic.values()),
        ),
        health=health(node, parts),
        notices=notices(node, parts),
        worker=parts.worker,
        loop=parts.loop,
        addresses=list(parts.addresses),
        model=config.model,
        trust_scheme=config.trust,
        refused=dict(node.refused),
        turned_away=dict(parts.turned_away),
        banned=banned(node, parts),
        round_seconds=round(node.round_seconds, 1),
        dropped=node.dropped + parts.dropped,
        sent=SentNow(
            publications=parts.spending.bare + parts.spending.hidden, bytes=parts.sent_bytes, peers=parts.sent_peers
        ),
        privacy=privacy_now(config, parts.spending, node.withheld),
        looking=bool(config.bootstrap or config.peer or config.lan),
        text=parts.text,
        served=parts.records[-1].served if parts.records else "personal",
        merge=merges.line(parts.records, merged, node.me),
        merges=merged,
        assembly=assembly_now(parts.records, "" if node.assembly == DONE else node.assembly),
        failures=parts.failures,
        before=parts.before,
        held_out=held_out(parts.records),
        worth=worth_now(parts.records, node.me, has_twin=parts.worker.twin == "on"),
        joining=reach.joining(config),
        invitations=reach.invitations(config, parts.addresses),
        invitation_notes=reach.invitation_notes(config, parts.addresses),
    )


def held_out(records: Sequence[RoundRecord]) -> HeldOutNow:
    """What the figures of the last round rest on."""
    if not records:
        return HeldOutNow()
    last = records[-1]
    return HeldOutNow(
        trust=last.on_trust, guard=last.on_guard, contradiction=contradiction(last.on_trust, last.on_guard)
    )


def banned(node: Node, parts: Parts) -> list[BannedNow]:
    """Whose ban ends last comes first."""
    names = {peer: known.name for peer, known in node.neighbours.items()}
    shown = [
        BannedNow(
            peer_id=peer,
            name=clean(names.get(peer, "")),
            seconds=round(standing.until - parts.at, 1),
            bans=standing.bans,
            reason=standing.reason,
        )
        for peer, standing in node.standings.items()
        if standing.is_banned(parts.at)
    ]
    return sorted(shown, key=lambda one: (-one.seconds, one.peer_id))


def neighbours(node: Node, parts: Parts, merged: MergesNow) -> list[NeighbourNow]:
    """Peers that are here, were heard or are trusted; not those known by hearsay alone. Most trusted first."""
    shown = [
        _neighbour(node, known, parts, merged)
        for known in node.neighbours.values()
        if known.connected
        or known.latest is not None
        or node.row.get(known.peer, 0.0) > 0.0
        or known.peer in merged.row
    ]
    return sorted(shown, key=lambda neighbour: (-neighbour.trust, neighbour.peer_id))


def _neighbour(node: Node, known: Neighbour, parts: Parts, merged: MergesNow) -> NeighbourNow:
    traffic = parts.traffic.get(known.peer, PeerTraffic())
    age = max(0.0, parts.at - known.admitted.admitted_at) if known.admitted is not None else None
    return NeighbourNow(
        peer_id=known.peer,
        name=clean(known.name),
        trust=merged.row.get(known.peer, 0.0),
        age_seconds=round(age, 1) if age is not None else None,
        round=known.latest.round if known.latest is not None else 0,  # type: ignore[arg-type]  # Round counts from 1
        connected=known.connected,
        bytes_in=traffic.bytes_in,
        bytes_out=traffic.bytes_out,
        refused=dict(known.refused),
        standing=outlook.standing(node, known.peer),
        copy_of=known.copy_of,
        refused_trust=merged.refused_row.get(known.peer, 0.0),
    )


def health(node: Node, parts: Parts) -> HealthNow:
    """What is wrong, in sentences that say what to do."""
    reasons = [
        *_worker_trouble(parts),
        *parts.troubles,
        *_no_numbers(parts.figures),
        *_failures(parts.failures),
        *_stuck(node, parts),
        *_doubles(node, parts),
        *_clocks(node),
        *_loneliness(node, parts),
        *parts.mistaken,
    ]
    return HealthNow(ok=not reasons, reasons=reasons)


def _worker_trouble(parts: Parts) -> list[str]:
    worker = parts.worker
    if worker.memory.advice:
        return [worker.memory.advice]
    if worker.state == "restarting" or (worker.state == "starting" and worker.restarts):
        return [f"The worker died ({worker.last_error}) and is being started again. The log says why: peerd paths"]
    return []


def _no_numbers(figures: RoundFigures) -> list[str]:
    """A base that overflows on some text: steps on it have no effect, and measures of it tell nothing."""
    told = {"the base model on held-out text": figures.guard_base, "the training of this round": figures.loss_train}
    lost = [what for what, loss in told.items() if loss is not None and has_diverged(loss)]
    if not lost:
        return []
    said = (
        f"The loss of {' and of '.join(lost)} is no number that means anything (diverged), so nothing is learnt "
        "from it. Start again with --precision fp32 or a smaller --lr, or with another --model and --home"
    )
    return [said]


def _failures(found: FailuresNow) -> list[str]:
    """While they are fresh; later they only stand among the figures."""
    if found.last_seconds is None or found.last_seconds > FRESH_FAILURE_SECONDS:
        return []
    times = sum(found.counts.values())
    often = "once" if times == 1 else f"{times} times"
    how = f"Something failed that should not ({often} since the start, last {found.last})"
    return [f"{how}; it goes on without. Please report it with the log: peerd paths"]


def _stuck(node: Node, parts: Parts) -> list[str]:
    waits = isinstance(node.phase, Starting | Resting | Stopping)
    seconds = parts.at - node.round_began_at
    allowed = max(STUCK_SECONDS, STUCK_ROUNDS * node.round_seconds) + parts.config.collect_seconds
    if waits or seconds <= allowed:
        return []
    return [f"Round {node.round} has not ended for {seconds / 60:.0f} minutes. The log says why: peerd paths"]


def _doubles(node: Node, parts: Parts) -> list[str]:
    double = doubles.running(node)
    if double is None:
        return []
    where = f" at {', '.join(double.addresses[:2])}" if double.addresses else ""
    said = (
        f"Another daemon runs with this identity{where}, in round {double.round}, heard of "
        f"{span(parts.at - double.heard_at)} ago: others hear only one of the two. Stop one (peerd stop), and give it "
        "a home and identity of its own: peerd start --home ANOTHER-FOLDER --data FOLDER"
    )
    return [said]


def _restored(node: Node) -> list[str]:
    if not node.lost:
        return []
    lost = node.lost - node.resumed + 1
    said = (
        f"This home was restored from a copy: others have heard of its round {node.lost}, and it went on with round "
        f"{node.resumed}, so {lost} of its rounds {'is' if lost == 1 else 'are'} lost. Nothing has to be done"
    )
    return [said]


def _clocks(node: Node) -> list[str]:
    """In health only if those say so that I listen to."""
    said = clocks.opinion(node)
    return [] if said is None or not said.is_trusted else [_clocks_in_words(said)]


def notices(node: Node, parts: Parts) -> list[str]:
    """What a person should know, though nothing has to be wrong."""
    said = clocks.opinion(node)
    strange = [] if said is None or said.is_trusted else [_clocks_in_words(said)]
    unannounced = reach.unannounced(parts.registered, parts.addresses)
    return [
        *parts.notices,
        *_restored(node),
        *strange,
        *([unannounced] if unannounced else []),
        *_strangers(node, parts),
    ]


def _strangers(node: Node, parts: Parts) -> list[str]:
    """Whom it could not join. In company it matters to nobody here, and strangers are given no page to write on."""
    older = node.refused.get("version", 0)
    said = [_OTHER_VERSION.format(count=some(older, "announcement"))] if older else []
    if any(known.connected for known in node.neighbours.values()):
        return said
    return [*said, *misfits.notices(parts.met, parts.differs), *parts.others]


def _clocks_in_words(said: clocks.Opinion) -> str:
    """Nobody knows here which clock is right, so nobody is told to set one."""
    whom = "peers that I listen to" if said.is_trusted else "connected peers, with none of whom I have merged yet,"
    side = "ahead" if said.seconds > 0 else "behind"
    return (
        f"{said.differ} of {said.asked} {whom} give a time that differs from this machine's by about "
        f"{span(abs(said.seconds))} (this one would be {side}), so nothing of theirs is taken meanwhile. Which clock "
        "is right is not known here; look at this machine's with: timedatectl"
    )


def span(seconds: float) -> str:
    """A time that people can picture."""
    for unit, name, enough in (
        (1.0, "seconds", SHOWN_AS_MINUTES),
        (60.0, "minutes", 7200.0),
        (3600.0, "hours", 3 * 86_400.0),
        (86_400.0, "days", 3 * 365.25 * 86_400.0),
    ):
        if seconds < enough:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / (365.25 * 86_400.0):.0f} years"


def _loneliness(node: Node, parts: Parts) -> list[str]:
    is_told_where = bool(parts.config.bootstrap or parts.config.peer)
    is_alone = not any(known.connected for known in node.neighbours.values())
    if not (is_told_where and is_alone) or parts.at - parts.began_at < LONELY_SECONDS:
        return []
    if parts.lonely:
        passing = [sentence for sentence in parts.lonely if sentence not in parts.mistaken]
        return [f"No peer is connected. {passing[0]}", *passing[1:]] if passing else []
    if parts.config.peer and not parts.config.bootstrap:
        return [_NO_PEER]
    return []
