"""Where a daemon goes on after a restart, of itself or of its worker: from the last checkpoint that is whole.

    files of the home --> open_state: set aside what is damaged --> Journal --> begin_node: the core's first state
                                                            |
                          worker opens with `open_job` <----+--> worker_started: the event with which the core goes on

Each run has an epoch, the time of its start in microseconds or one more than any epoch that is known here (ADR 0017).
That is what makes copies safe: a home restored from a backup has forgotten the numbers that it gave, and must not give
them again. A clock that was set back changes nothing, since the epoch only grows.

What the core is handed by the run before is little: the checkpoint, the newest orders of peers, good peers, bans, the
own announcement and the last rows. Everything else of the core's state is learnt again, and a wrong belief with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec

from p2pfinetune.codec import difference_codecs
from p2pfinetune.names import PeerId, Round
from p2pfinetune.options import sections
from p2pfinetune.round.figures import RoundFigures
from peerd.config import Config
from peerd.core.clocks import listened_in
from peerd.core.events import WorkerStarted
from peerd.core.limits import CLOCK_ROUNDS
from peerd.core.node import begin
from peerd.core.offences import Standing
from peerd.core.patience import waited_rounds
from peerd.core.settings import Settings
from peerd.core.state import Moved
from peerd.daemon.journal import Journal
from peerd.errors import UsageError
from peerd.machine.paths import Paths
from peerd.status import RoundRecord
from peerd.store.blobs import FileBlobs
from peerd.store.generations import Generations
from peerd.store.port import Checkpoint, KeptBan, KnownPeer
from peerd.store.rounds import figures_of
from peerd.store.sent import Spending
from peerd.store.sqlite import SqliteStore
from peerd.wire.envelope import Envelope
from peerd.wire.messages import Announcement, PeerRecord
from peerd.worker.messages import Open, Opened

MAX_EPOCH = 2**52
"""Half of what an announcement can carry; the year 2112. A clock that is far ahead leaves room for epochs after it."""

_log = logging.getLogger("peerd.resume")


def open_state(
    paths: Paths,
    unix: float,
    *,
    me: PeerId | None = None,
    guard: Callable[[], None] = lambda: None,
    was_here: bool = False,
) -> tuple[SqliteStore, FileBlobs, Journal]:
    """Everything that lies in a home; what is damaged is set aside and said. Raises StoreError.

    UsageError if it is the training of another peer than `me`; it is left as it is. `guard`: see `Journal`.
    `was_here`: something may have been published from this home before; if the count of it is lost, that is kept.
    """
    blobs, generations = FileBlobs(paths.blobs, guard), Generations(paths.blobs)
    was_there = paths.database.exists()
    store = SqliteStore(paths.database, epoch=epoch_of(unix), after=generations.kept.order)
    for kept in (store.checkpoint(), *generations.kept.checkpoints):
        if me is not None and kept is not None and kept.peer not in {None, me}:
            store.close()
            raise another_s(paths, kept.peer, me)
    for notice in filter(None, (generations.notice, store.notice)):
        _log.warning("%s", notice)
    if store.spending() is None:
        store.save_spending(Spending(since_unix=unix, lost=was_here))
    is_copied = generations.is_copied(paths.database.stat().st_ino) and was_there and not store.notice
    known = {ban.peer for ban in store.bans()}
    for ban in generations.kept.bans:
        if ban.peer not in known:  # the database is new, or has lost its latest rows
            store.save_ban(ban)
    journal = Journal(store, blobs, generations, me=me, guard=guard)
    if is_copied:
        journal.notices.append(copied_words(journal))
        _log.warning("%s", journal.notices[-1])
    return store, blobs, journal


def copied_words(journal: Journal) -> str:
    """What is known of a home whose files are others than they were."""
    round_ = journal.checkpoint.round if journal.checkpoint is not None else 1
    return (
        f"This home is a copy (restored from a backup, moved or cloned); it goes on with round {round_}, and rounds "
        "that came after the copy are lost. If the home that it was copied from still runs, stop one of the two: they "
        "have one identity"
    )


def epoch_of(unix: float) -> int:
    """Of a daemon that starts then: microseconds, so that two copies of one home hardly ever begin the same one."""
    return min(max(0, int(unix * 1e6)), MAX_EPOCH)


def another_s(paths: Paths, owner: PeerId | None, me: PeerId) -> UsageError:
    """What was trained on one text must not go on with the splits of another: they are dealt by identity."""
    return UsageError(
        f"what was trained in {paths.home} belongs to the peer {owner}, and {paths.identity} is the key of {me}",
        f"put its own key back in {paths.identity}, or start this one in a home of its own: --home DIR",
    )


async def open_job(config: Config, paths: Paths, journal: Journal, me: PeerId) -> Open:
    """What the worker has to load: the last generation that is whole."""
    checkpoint, best = await journal.whole_checkpoint(), await journal.whole_best()
    return Open(
        id=0,
        config=config,
        cache=str(paths.cache),
        scratch=str(paths.scratch),
        splits=str(paths.splits),
        me=me,
        checkpoint=str(checkpoint[1]) if checkpoint is not None else None,
        best=str(best[1]) if best is not None else None,
        best_guard=best[0] if best is not None else None,
    )


def worker_started(opened: Opened, journal: Journal, settings: Settings, at: float) -> WorkerStarted:
    """The event that lets the core go on with the round that the checkpoint stands in."""
    kept = journal.checkpoint
    return WorkerStarted(
        at=at,
        network=opened.network,
        device=opened.device,
        max_blob_bytes=opened.max_blob_bytes,
        difference_codecs=difference_codecs(),
        round=kept.round if kept is not None else Round(1),
        trained=kept is not None and kept.trained and opened.restored,
        best_guard=opened.best_guard,
        steps=opened.steps,
        pairing=opened.pairing,
        is_new=kept is None,
        waited_rounds=waited_rounds((record.guard_personal for record in journal.records), settings.min_gain),
    )


def begin_node(
    config: Config,
    me: PeerId,
    at: float,
    known: Sequence[KnownPeer],
    seen: Mapping[PeerId, tuple[int, int]],
    journal: Journal,
    bans: Sequence[KeptBan] = (),
    unix: float = 0.0,
    *,
    secret: str = "",
) -> Moved:
    """The core as the run before left it. `unix` is the time of `at`, for bans; `secret` as of `begin`."""
    rows = list(journal.records)[-CLOCK_ROUNDS:]
    last = rows[-1] if rows else None
    return begin(
        sections.of(Settings, config),
        me,
        at,
        [PeerRecord(peer=peer.peer, addresses=peer.addresses) for peer in known],
        seen,
        own_announcement(journal.envelope),
        last.row if last is not None else None,
        {ban.peer: standing_of(ban, at, unix) for ban in bans},
        epoch=journal.epoch,
        said_before=journal.said_before,
        listened_to=listened_in(((record.round, record.row) for record in rows), me),
        proven={peer.peer: peer.proven for peer in known},
        secret=secret,
    )


def standing_of(ban: KeptBan, at: float, unix: float) -> Standing:
    """On the clock of this run. A clock that was set back since makes a ban no longer than it was meant to be."""
    left = min(ban.until_unix - unix, ban.seconds)
    return Standing(at=at, bans=ban.bans, until=at + left, reason=ban.reason)


def own_announcement(envelope: Envelope | None) -> Announcement | None:
    """What was announced last."""
    return envelope.said if envelope is not None and isinstance(envelope.said, Announcement) else None


def measured(record: RoundRecord | None, kept: Checkpoint | None) -> tuple[RoundFigures, int]:
    """What the last round measured, to be shown until the next one; and the steps of the round that is under way."""
    figures = figures_of(record) if record is not None else RoundFigures()
    if kept is None or not kept.trained:
        return figures, 0
    return msgspec.structs.replace(figures, loss_train=kept.loss_train), kept.steps
