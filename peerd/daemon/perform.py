"""Performs what the core asks for. Every effect that the core waits for gives an event, failures included; others may.

"Record, then speak": checkpoints, records and announcements are durable before their event exists and before the
network hears of them. Nothing here decides; a death of the worker is reported by whoever keeps it alive, so what was
asked of a dead worker simply has no answer. What raises all the same is made an answer by `Performer.failed`.

    Publish:      worker encodes --> blob into the shelf --> number reserved --> announcement and what it spends,
                  in one transaction --> gossip --> Published
    Train:        worker trains, writes a file --> file into the shelf --> checkpoint --> Trained
    Collaborate:  worker merges, writes files --> into the shelf --> record and checkpoint, one transaction
                  --> Collaborated

A crash between any two arrows leaves a state from which the next start goes on: at worst a number is skipped, a blob is
swept or a step is done again to the same bits. The other order would let a peer say twice under one number, or spend a
privacy budget that nobody wrote down. The order is that of write-ahead logging.

Effects run side by side. Two things must not: announcements take their number and are recorded under one lock, so that
the newest number is the one that is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

import msgspec

from p2pfinetune.names import Digest, PeerId, Round
from p2pfinetune.round.figures import RoundFigures, told
from peerd.config import Config
from peerd.core.effects import (
    Admit,
    AnswerMiddle,
    AnyEffect,
    AskMiddle,
    Assemble,
    Ban,
    Collaborate,
    CountRefusal,
    Dial,
    Disconnect,
    Fetch,
    Forget,
    LiftBan,
    Note,
    Publish,
    RefuseMiddle,
    Remember,
    Repeat,
    Stop,
    Train,
)
from peerd.core.events import (
    AnyEvent,
    Assembled,
    AssemblyFailed,
    BlobFetched,
    Collaborated,
    CollaborationFailed,
    DialFailed,
    FetchFailed,
    PeerConnected,
    Published,
    PublishFailed,
    PublishWithheld,
    Reannounced,
    Trained,
    UpdateAdmitted,
    UpdateRefused,
)
from peerd.daemon.journal import Journal
from peerd.daemon.key_frame import KeyFrameFile, last_key_frame
from peerd.daemon.link import SupervisedTransport
from peerd.daemon.middles import Middles
from peerd.daemon.newcomer import Newcomer, timed
from peerd.daemon.privacy_in_words import epsilon_text, private_of
from peerd.daemon.reach import fitting
from peerd.daemon.resume import own_announcement
from peerd.errors import StoreError, WorkerError
from peerd.machine.faults import around
from peerd.net.transport import Connected, Failed, Fetched
from peerd.store.port import KeptBan, KnownPeer
from peerd.store.rounds import StoredRound
from peerd.store.sent import Publication
from peerd.wire.envelope import Envelope, sealed
from peerd.wire.keys import PeerKey
from peerd.wire.messages import Announcement
from peerd.worker.messages import (
    Admitted,
    AdmitUpdate,
    AnyAnswer,
    CollaborateWith,
    Encode,
    Encoded,
    JobFailed,
    JobProgress,
    Merged,
    NotAdmitted,
    Stepped,
    TrainSteps,
    UpdateFile,
    Withheld,
)
from peerd.worker.supervisor import Worker

_log = logging.getLogger("peerd.perform")


class Latest(msgspec.Struct, kw_only=True):
    """What is only known from passing by, for the snapshot and the next record."""

    figures: RoundFigures = RoundFigures()
    """Each as it was measured last; after a start, those of the last record."""
    steps: int = 0
    """Of the own training of this round."""
    bytes_in: int = 0
    """Up to the last record."""
    bytes_out: int = 0


class Performer:
    """One method an effect."""

    def __init__(
        self,
        *,
        key: PeerKey,
        config: Config,
        journal: Journal,
        worker: Worker,
        network: SupervisedTransport,
        clock: Callable[[], float],
        unix: Callable[[], float],
        middles: Middles,
        dialled: Callable[[PeerId, Connected | Failed], None] = lambda _peer, _outcome: None,
        scratch: Path = Path(),
    ) -> None:
        """`dialled` hears how each dial went; `scratch` is the worker's folder for files."""
        self._key, self._config, self._clock, self._unix = key, config, clock, unix
        self._journal, self._worker, self._network, self._dialled = journal, worker, network, dialled
        self.network_digest: Digest | None = None
        """Set when the worker has opened, before the core can ask for anything that needs it."""
        self.latest = Latest()
        self._middles = middles
        self.newcomer = Newcomer(network, worker, scratch, shares=config.gate_steps > 0)
        self._numbering = asyncio.Lock()
        """Announcements take their numbers and are recorded one after the other, so that the newest is kept."""

    async def perform(self, effect: AnyEffect) -> AnyEvent | None:  # noqa: C901, PLR0911, PLR0912  # one line each
        """Do it; the event that answers it, None if there is no answer."""
        match effect:
            case Train():
                return await self._train(effect)
            case Publish():
                return await self._publish(effect)
            case Repeat():
                return await self._repeat()
            case Fetch():
                return await self._fetch(effect)
            case Admit():
                return await self._admit(effect)
            case Collaborate():
                return await self._collaborate(effect)
            case AskMiddle() | AnswerMiddle() | RefuseMiddle():
                return await self._middles.perform(effect)
            case Assemble():
                return await self._assemble(effect)
            case Dial():
                return await self._dial(effect)
            case Remember():
                known = KnownPeer(
                    peer=effect.peer, addresses=effect.addresses, last_good_unix=self._unix(), proven=effect.proven
                )
                await self._journal.remember(known)
            case Forget():
                await self._journal.forget(effect.digests)
            case Note():
                level = logging.WARNING if effect.level == "warning" else logging.INFO
                _log.log(level, "%s", effect.message, extra={"peer": effect.peer} if effect.peer else None)
            case CountRefusal():
                await self._journal.count_refusal(effect.peer, effect.reason)
            case Ban():
                until = self._unix() + effect.seconds
                kept = KeptBan(
                    peer=effect.peer, until_unix=until, seconds=effect.seconds, bans=effect.bans, reason=effect.reason
                )
                await self._journal.ban(kept)
            case LiftBan():
                await self._journal.lift_ban(effect.peer)
            case Disconnect():
                await self._network.disconnect(effect.peer)
            case Stop():
                return None  # the shell's own business
            case _:
                assert_never(effect)
        return None

    def failed(self, effect: AnyEffect, reason: str) -> AnyEvent | None:
        """What the core is told of an effect that raised. Nobody is blamed for it; the round goes on.

        Training and merging are done again from the last checkpoint, by a new worker: this one may be ahead of what
        is recorded. A blob is fetched again later, a peer dialled again.
        """
        at = self._clock()
        match effect:
            case Train() | Collaborate() | Assemble():
                self._worker.restart(f"{type(effect).__name__} failed: {reason}")
                return None  # the worker's keeper tells of its death
            case Publish():
                return PublishFailed(at=at, round=effect.round, reason=reason)
            case Fetch() | Admit():
                return FetchFailed(at=at, peer=effect.peer, digest=effect.digest, reason="unreachable")
            case AskMiddle() | AnswerMiddle() | RefuseMiddle():
                return self._middles.failed(effect)
            case Dial():
                return DialFailed(at=at, peer=effect.peer, reason="unreachable")
            case Repeat() | Remember() | Forget() | Note() | CountRefusal() | Ban() | LiftBan() | Disconnect() | Stop():
                return None  # nobody waits for it
            case _:
                assert_never(effect)

    async def _train(self, effect: Train) -> Trained | None:
        try:
            answer = await self._worker.call(
                TrainSteps(id=0, round=effect.round, steps=effect.steps), self._note_training
            )
        except WorkerError:
            return None
        if not isinstance(answer, Stepped):
            self._worker.restart(why(answer))
            return None
        with around("handover.training"):
            file = Path(answer.checkpoint)
            await self._journal.training_saved(effect.round, file, answer.steps, answer.loss_train)
        self.latest.steps = answer.steps
        self._note_loss(answer.loss_train)
        _log.info("trained", extra={"round": effect.round, "steps": answer.steps, "loss": round(answer.loss_train, 4)})
        return Trained(at=self._clock(), round=effect.round, steps=answer.steps)

    async def _publish(self, effect: Publish) -> Published | PublishFailed | PublishWithheld | None:
        config = self._config
        private = private_of(config, self._journal.spending)
        key = await last_key_frame(self._journal, self.network_digest, config.codec)
        path, since = (str(key.path), key.publications) if key is not None else (None, 0)
        try:
            answer = await self._worker.call(
                Encode(id=0, codec=config.codec, private=private, key=path, since_key=since)
            )
        except WorkerError:
            return None
        if isinstance(answer, Withheld):
            spent = f"one more update would bring epsilon to {epsilon_text(answer.epsilon)}"
            reason = f"{spent}, and the budget is {epsilon_text(config.private_budget)}"
            return PublishWithheld(at=self._clock(), round=effect.round, reason=reason)
        if not isinstance(answer, Encoded):
            return PublishFailed(at=self._clock(), round=effect.round, reason=why(answer))
        await self.newcomer.has(answer.gates)
        try:
            async with self._numbering:
                announcement = await self._announcement(effect, answer, key)
                envelope = sealed(self._key, announcement)
                publication = self._publication(announcement, answer)
                await self._journal.announcement_saved(envelope, publication, config.private_delta)
        except StoreError as error:
            return PublishFailed(at=self._clock(), round=effect.round, reason=str(error))
        await self._speak(envelope)
        return Published(at=self._clock(), announcement=announcement)

    async def _announcement(self, effect: Publish, encoded: Encoded, key: KeyFrameFile | None) -> Announcement:
        assert self.network_digest is not None
        with around("handover.update"):
            blob = await self._journal.adopt(Path(encoded.path))
        base = key if encoded.is_difference else None
        epoch, sequence = await self._journal.next_order()
        return Announcement(
            network=self.network_digest,
            peer=self._key.peer_id,
            epoch=epoch,
            sequence=sequence,
            round=effect.round,
            codec=self._config.codec,
            size=encoded.size,
            blob=blob,
            base=base.digest if base is not None else None,
            base_size=base.size if base is not None else 0,
            time=self._now(),
            name=self._config.name,
            addresses=fitting(self._network.addresses),
        )

    def _publication(self, announcement: Announcement, encoded: Encoded) -> Publication:
        is_hidden = encoded.epsilon is not None
        return Publication(
            round=announcement.round,
            unix=self._unix(),
            blob=announcement.blob,
            size=announcement.size,
            clip=self._config.private_clip if is_hidden else 0.0,
            noise=self._config.private_noise if is_hidden else 0.0,
            epsilon=encoded.epsilon,
        )

    async def _repeat(self) -> Reannounced | None:
        """The same number says the same; what this run has not said, or says otherwise now, takes a new one."""
        answer = None
        async with self._numbering:
            own = own_announcement(self._journal.envelope)
            if own is None:
                return None
            envelope = sealed(self._key, msgspec.structs.replace(own, time=self._now()))
            addresses = fitting(self._network.addresses) or own.addresses
            if (own.epoch, own.addresses) != (self._journal.epoch, addresses):  # a name changes with the run alone
                try:
                    epoch, sequence = await self._journal.next_order()
                    renewed = {"epoch": epoch, "sequence": sequence, "time": self._now(), "addresses": addresses}
                    own = msgspec.structs.replace(own, **renewed, name=self._config.name)
                    fresh = sealed(self._key, own)
                    await self._journal.announced_anew(fresh)
                    envelope, answer = fresh, Reannounced(at=self._clock(), announcement=own)
                except StoreError as error:
                    _log.warning("this run's addresses are not announced yet: %s", error)
        await self._speak(envelope)
        return answer

    def _now(self) -> int:
        """Unix seconds, as an announcement says them."""
        return max(0, int(self._unix()))

    async def _speak(self, envelope: Envelope) -> None:
        """What is not heard now is repeated later, so a failure is no event."""
        with around("announcement.speak"):
            failed = await self._network.publish(envelope.data)
        if failed is not None:
            _log.debug("the announcement was not sent", extra={"reason": failed.reason, "detail": failed.detail})

    async def _fetch(self, effect: Fetch) -> BlobFetched | FetchFailed:
        got = await self._network.fetch(effect.digest, effect.size, effect.holders, effect.timeout_seconds)
        if isinstance(got, Fetched):
            return BlobFetched(
                at=self._clock(), peer=effect.peer, digest=effect.digest, bytes_in=got.bytes_in, wrong=got.wrong
            )
        _log.debug("fetch failed", extra={"peer": effect.peer, "reason": got.reason, "detail": got.detail})
        return FetchFailed(at=self._clock(), peer=effect.peer, digest=effect.digest, reason=got.reason, wrong=got.wrong)

    async def _admit(self, effect: Admit) -> UpdateAdmitted | UpdateRefused | FetchFailed | None:
        peer, digest = effect.peer, effect.digest
        try:
            path = await self._journal.blob(digest)
            base = await self._base(effect.base)
            answer = await self._worker.call(AdmitUpdate(id=0, path=str(path), codec=effect.codec, base=base))
        except StoreError:  # our disk lost it; that is no fault of the peer's
            return FetchFailed(at=self._clock(), peer=peer, digest=digest, reason="absent")
        except WorkerError:
            return None
        if isinstance(answer, Admitted):
            await self._journal.seen(peer, effect.order)
            return UpdateAdmitted(at=self._clock(), peer=peer, digest=digest)
        reason = answer.reason if isinstance(answer, NotAdmitted) else "inspection-failed"
        detail = answer.detail if isinstance(answer, NotAdmitted) else why(answer)
        _log.info("update refused", extra={"peer": peer, "reason": reason, "detail": detail})
        return UpdateRefused(at=self._clock(), peer=peer, digest=digest, reason=reason)

    async def _base(self, digest: Digest | None) -> str | None:
        return str(await self._journal.blob(digest)) if digest is not None else None

    async def _collaborate(self, effect: Collaborate) -> Collaborated | CollaborationFailed | None:
        try:
            updates = await self._update_files(effect)
            answer = await self._worker.call(
                CollaborateWith(id=0, round=effect.round, updates=updates, products=dict(effect.products))
            )
        except WorkerError:
            return None
        if not isinstance(answer, Merged):
            return CollaborationFailed(at=self._clock(), round=effect.round, reason=why(answer))
        figures = told(msgspec.structs.replace(answer.figures, loss_train=self.latest.figures.loss_train))
        await self._recorded(effect.round, answer, figures)
        said = {"round": effect.round, "accepted": answer.accepted, "reason": answer.reason, "peers": len(updates)}
        guard = figures.guard_personal
        _log.info("round finished", extra={**said, "guard": None if guard is None else round(guard, 4)})
        return Collaborated(
            at=self._clock(),
            round=effect.round,
            row=answer.row,
            accepted=answer.accepted,
            reason=answer.reason,
            figures=figures,
            best_guard=answer.best_guard,
            refused=answer.refused,
            copies=tuple(answer.copies),
        )

    async def _assemble(self, effect: Assemble) -> Assembled | AssemblyFailed | None:
        began, updates = self._clock(), await self._update_files(effect)
        answer = await self.newcomer.assemble(effect, updates)
        if answer is None:
            return None
        if not isinstance(answer, Merged):
            return AssemblyFailed(at=self._clock(), reason=answer if isinstance(answer, str) else why(answer))
        figures = told(timed(answer.figures, self._clock() - began))
        await self._recorded(Round(0), answer, figures)
        return Assembled(at=self._clock(), row=answer.row, accepted=answer.accepted, figures=figures)

    async def _recorded(self, round_: Round, answer: Merged, figures: RoundFigures) -> None:
        record = self._record(round_, answer, figures)
        best = Path(answer.best) if answer.best is not None else None
        with around("handover.merge"):
            await self._journal.round_saved(record, Path(answer.checkpoint), best, answer.best_guard)
        self._note_recorded(figures)

    async def _update_files(self, effect: Collaborate | Assemble) -> list[UpdateFile]:
        files: list[UpdateFile] = []
        for candidate in effect.candidates:
            try:
                path, base = await self._journal.blob(candidate.digest), await self._base(candidate.base)
            except StoreError as error:
                _log.warning("an update is left out of the merge: %s", error, extra={"peer": candidate.peer})
            else:
                files.append(UpdateFile(peer=candidate.peer, path=str(path), codec=candidate.codec, base=base))
        return files

    def _record(self, round_: Round, merged: Merged, figures: RoundFigures) -> StoredRound:
        bytes_in, bytes_out = self._bytes()
        return StoredRound.of(
            figures,
            round=round_,
            finished_unix=self._unix(),
            row=merged.row,
            accepted=merged.accepted,
            reason=merged.reason,
            steps=self.latest.steps,
            bytes_in=bytes_in - self.latest.bytes_in,
            bytes_out=bytes_out - self.latest.bytes_out,
            served=merged.served,
        )

    def _note_recorded(self, figures: RoundFigures) -> None:
        self.latest.figures = figures
        self.latest.steps = 0
        self.latest.bytes_in, self.latest.bytes_out = self._bytes()

    def _bytes(self) -> tuple[int, int]:
        rows = self._network.traffic().values()
        return sum(row.bytes_in for row in rows), sum(row.bytes_out for row in rows)

    async def _dial(self, effect: Dial) -> PeerConnected | DialFailed:
        got = await self._network.connect(effect.peer, effect.addresses)
        self._dialled(effect.peer, got)
        if isinstance(got, Connected):
            return PeerConnected(at=self._clock(), peer=effect.peer, address=got.address)
        _log.debug("dial failed", extra={"peer": effect.peer, "reason": got.reason, "detail": got.detail})
        return DialFailed(at=self._clock(), peer=effect.peer, reason=got.reason)

    def _note_training(self, progress: JobProgress) -> None:
        if progress.loss is not None:
            self._note_loss(progress.loss)

    def _note_loss(self, of_training: float) -> None:
        self.latest.figures = msgspec.structs.replace(self.latest.figures, loss_train=of_training)


def why(answer: AnyAnswer) -> str:
    """Why a job failed, in words."""
    if isinstance(answer, JobFailed):
        return f"{answer.code}: {answer.message}"
    return f"the worker answered with {type(answer).__name__}"
