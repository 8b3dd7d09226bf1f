"""Where a daemon goes on after a restart, of itself or of its worker: from the last checkpoint that is whole."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec

from p2pfinetune.names import Digest, PeerId, Refusal, Round
from peerd.config import Config
from peerd.core.events import Losses, WorkerStarted
from peerd.core.node import begin
from peerd.core.offences import Standing
from peerd.core.patience import waited_rounds
from peerd.core.settings import Settings
from peerd.core.state import Moved
from peerd.errors import StoreError
from peerd.journal import Journal
from peerd.paths import Paths
from peerd.status import RoundRecord
from peerd.store._port import Checkpoint, KeptBan, KnownPeer
from peerd.wire.envelope import open_announcement
from peerd.wire.messages import Announcement, PeerRecord
from peerd.worker.messages import Open, Opened

_log = logging.getLogger("peerd.resume")


async def open_job(config: Config, paths: Paths, journal: Journal, me: PeerId) -> Open:
    """What the worker has to load; a checkpoint that was damaged on disk is left out, and said."""
    kept = journal.checkpoint
    checkpoint = await _whole(journal, kept.blob) if kept is not None else None
    best = await _whole(journal, kept.best_blob) if kept is not None and kept.best_blob is not None else None
    return Open(
        id=0,
        config=msgspec.to_builtins(config),
        cache=str(paths.cache),
        scratch=str(paths.scratch),
        me=me,
        checkpoint=checkpoint,
        best=best,
        best_guard=kept.best_guard if kept is not None and best is not None else None,
    )


async def _whole(journal: Journal, blob: Digest) -> str | None:
    try:
        return str(await journal.blob(blob))
    except StoreError as error:
        _log.warning("%s; what it held of the training is lost, and training goes on without it", error)
        return None


def worker_started(opened: Opened, journal: Journal, settings: Settings, at: float) -> WorkerStarted:
    """The event that lets the core go on with the round that the checkpoint stands in."""
    kept = journal.checkpoint
    return WorkerStarted(
        at=at,
        network=opened.network,
        device=opened.device,
        max_blob_bytes=opened.max_blob_bytes,
        round=kept.round if kept is not None else Round(1),
        trained=kept is not None and kept.trained and opened.restored,
        best_guard=opened.best_guard,
        steps=opened.steps,
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
) -> Moved:
    """The core as the run before left it. `unix` is the time of `at`, for bans."""
    last = journal.records[-1] if journal.records else None
    return begin(
        msgspec.convert(config, Settings, from_attributes=True),
        me,
        at,
        [PeerRecord(peer=peer.peer, addresses=peer.addresses) for peer in known],
        seen,
        own_announcement(journal.envelope),
        last.row if last is not None else None,
        {ban.peer: standing_of(ban, at, unix) for ban in bans},
    )


def standing_of(ban: KeptBan, at: float, unix: float) -> Standing:
    """On the clock of this run. A clock that was set back since makes a ban no longer than it was meant to be."""
    left = min(ban.until_unix - unix, ban.seconds)
    return Standing(at=at, bans=ban.bans, until=at + left, reason=ban.reason)


def own_announcement(envelope: bytes | None) -> Announcement | None:
    """What was announced last."""
    opened = open_announcement(envelope) if envelope is not None else None
    return None if isinstance(opened, Refusal) else opened


def measured(record: RoundRecord | None, kept: Checkpoint | None) -> tuple[Losses, int]:
    """What the last round measured, to be shown until the next one; and the steps of the round that is under way."""
    losses = losses_of(record) if record is not None else Losses()
    if kept is None or not kept.trained:
        return losses, 0
    return msgspec.structs.replace(losses, train=kept.loss_train), kept.steps


def losses_of(record: RoundRecord) -> Losses:
    """What a round measured."""
    return Losses(
        train=record.loss_train,
        trust=record.loss_trust,
        guard_base=record.guard_base,
        guard_own=record.guard_own,
        guard_personal=record.guard_personal,
        guard_local=record.guard_local,
    )
