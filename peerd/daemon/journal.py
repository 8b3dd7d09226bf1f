"""What must survive: checkpoints, round records and the own announcement, each durable before anyone hears of it.

The store and the blob shelf wait for the disk, so a single thread of their own does that work, in order. A full disk is
waited out if the round cannot go on without it, and only logged if it can. What fails while something is recorded for
good, and is no refusal of the disk, leaves it open what is on disk: it is raised as Unforeseen, which ends the daemon
in order.

Three kinds of writing, by who needs it:

    _must       training cannot go on without it (checkpoint, record): tried again for ever, and people told why
    _in_thread  raised to whoever asked (announcement): the round goes on without publishing
    _may        tried once (newest orders, peers, bans, refusals, the book): the daemon can do without

A checkpoint is replaced in five steps, and each crash between two of them leaves one that is whole:

    blob into the shelf -> row (with the round's record) -> generations (new, and the one before) -> in memory
        -> blobs of the generation that fell out are deleted

`whole_checkpoint` goes the other way: newest first, and the first one whose blob still hashes is in force. Rounds that
are then done again lose their records first, so a round is in the history once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from p2pfinetune.names import Digest, PeerId, Round
from peerd.errors import HomeGone, LostError, StoreError
from peerd.machine.boundary import for_good
from peerd.pacing import Backoff
from peerd.status import RoundRecord
from peerd.store.generations import Generations
from peerd.store.limits import RESUME_SECONDS
from peerd.store.port import Blobs, Checkpoint, KeptBan, KnownPeer, Store
from peerd.store.rounds import StoredRound, shown
from peerd.store.sent import Book, Publication, SentBytes, Spending, entered, totals
from peerd.wire.envelope import Envelope, opened

Result = TypeVar("Result")

SHOWN_ROUNDS = 10_000  # kept in memory for the dashboard and `peerd rounds`; some megabytes

_log = logging.getLogger("peerd.journal")


def age(kept: Checkpoint | None) -> tuple[int, bool]:
    """How far training had come."""
    return (-1, False) if kept is None else (kept.round, kept.trained)


class Journal:
    """The daemon's memory on disk. Made before the loop runs, closed after it."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        generations: Generations | None = None,
        *,
        pauses: Backoff | None = None,
        me: PeerId | None = None,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """`me` is written into checkpoints; `guard` is asked before each step, and raises if none may be taken."""
        self._store, self._blobs, self._generations = store, blobs, generations or Generations()
        self._pauses, self._me, self._guard = pauses or Backoff(), me, guard
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="disk")
        self.checkpoint = max((store.checkpoint(), *self._generations.kept.checkpoints), key=age, default=None)
        """Where training stands; None before the first round."""
        kept = store.announcement()
        self.envelope = opened(kept) if kept is not None else None
        """Of the last own announcement, opened once, when it was read or sealed."""
        self.announced: Digest | None = None
        """The blob that was announced last in this run."""
        self.records: deque[RoundRecord] = deque(map(shown, store.rounds(SHOWN_ROUNDS)), maxlen=SHOWN_ROUNDS)
        """Finished rounds, oldest first; none of them is at or after the checkpoint's round."""
        self.publications: deque[Publication] = deque(store.publications(SHOWN_ROUNDS), maxlen=SHOWN_ROUNDS)
        """Oldest first. `spending` counts those too that have fallen out."""
        self.spending = store.spending() or Spending(since_unix=0.0)
        """What all publications come to; on disk whenever the announcement is that spends it."""
        self.sent: Book = entered({}, store.sent())
        """Bytes by round and peer; ahead of the disk by `_unwritten`."""
        self.sent_bytes, self.sent_peers = totals(self.sent.values())
        self._unwritten: list[SentBytes] = []
        self._drop_undone()
        if self.checkpoint is not None and store.checkpoint() is None:
            _log.warning("the database knows no checkpoint; going on from round %d, as kept beside the blobs, which is "
                         "all but the history of rounds and known peers", self.checkpoint.round)  # fmt: skip
        self.notices: list[str] = []
        """What a person should know of this home, in whole sentences."""
        self.incoming: set[Path] = set()
        """Files of the worker that are on their way into the shelf."""
        self.trouble = ""
        """Why the disk cannot be written; empty if it can."""

    def close(self) -> None:
        """Wait for what is being written, then close the store."""
        self._disk.shutdown(wait=True)
        self._store.close()

    async def training_saved(self, round_: Round, file: Path, steps: int, loss_train: float) -> None:
        """The own training of a round is in `file`: keep it, and what its record will say of it."""
        with self._keeping(file):
            blob = await self._must(self._blobs.adopt, file)
        before = self.checkpoint
        await self._replace(
            Checkpoint(
                round=round_,
                trained=True,
                peer=self._me,
                steps=steps,
                loss_train=loss_train,
                blob=blob,
                best_guard=before.best_guard if before else None,
                best_blob=before.best_blob if before else None,
            )
        )

    async def round_saved(self, record: StoredRound, file: Path, best: Path | None, best_guard: float) -> None:
        """A round is over: its record and the state that the next one starts from, together."""
        before = self.checkpoint
        best_blob = before.best_blob if before else None
        with self._keeping(file, best):
            blob = await self._must(self._blobs.adopt, file)
            if best is not None:
                best_blob = await self._must(self._blobs.adopt, best)
        after = Checkpoint(
            round=Round(record.round + 1),
            trained=False,
            peer=self._me,
            blob=blob,
            best_guard=best_guard,
            best_blob=best_blob,
        )
        await self._replace(after, record)

    async def whole_checkpoint(self) -> tuple[Checkpoint, Path] | None:
        """The newest checkpoint whose blob is whole, in force from now on; what is damaged is set aside and said."""
        generations = sorted(self._generations_of_checkpoints(), key=age, reverse=True)
        for kept in generations:
            try:
                path = await self._must(self._blobs.path, kept.blob)
            except LostError as error:
                _log.warning("%s; it was the training state of round %d", error, kept.round)
                continue
            if kept != self.checkpoint:
                _log.warning("training goes on from the generation before, of round %d", kept.round)
                self.checkpoint = kept
                self._drop_undone()
            return kept, path
        if generations:
            _log.warning("no training state is left: training begins anew, only round numbers go on")
        return None

    async def whole_best(self) -> tuple[float, Path] | None:
        """The best adapter by guard loss of the newest generation that has it whole."""
        for kept in sorted(self._generations_of_checkpoints(), key=age, reverse=True):
            if kept.best_blob is None or kept.best_guard is None:
                continue
            try:
                return kept.best_guard, await self._must(self._blobs.path, kept.best_blob)
            except LostError as error:
                _log.warning("%s; it was the best adapter so far", error)
        return None

    async def adopt(self, file: Path) -> Digest:
        """Move a finished file into the shelf. Raises StoreError."""
        with self._keeping(file):
            return await self._in_thread(self._blobs.adopt, file)

    async def next_order(self) -> tuple[int, int]:
        """(epoch, sequence), never used before. Raises StoreError."""
        order = await self._in_thread(self._store.reserve_sequence)
        if order > self._generations.kept.order:  # the first of a block, or what was reserved could not be kept
            reserved = await self._in_thread(self._store.reserved)
            await self._in_thread(self._generations.keep_order, reserved)
        return order

    @property
    def epoch(self) -> int:
        """Of this run: above those of all runs before it, as far as this home knows."""
        return self._store.reserved()[0]

    @property
    def said_before(self) -> tuple[int, int]:
        """The last number that a run before may have been given, as far as this home knows."""
        return self._store.said_before

    async def announced_anew(self, envelope: Envelope) -> None:
        """The last update under another number: nothing more is spent by it. Raises StoreError."""
        await self._in_thread(self._store.save_announcement, envelope.data)
        self.envelope = envelope

    async def announcement_saved(self, envelope: Envelope, publication: Publication, delta: float) -> None:
        """The own announcement and what it spends, together, before it is spoken. Raises StoreError."""
        after = self.spending.after(publication, delta)
        with for_good("an announcement"):
            await self._in_thread(self._store.save_announcement, envelope.data, publication, after)
            self.envelope, self.spending = envelope, after
            self.announced = publication.blob
            self.publications.append(publication)

    async def sent_counted(self, rows: list[SentBytes]) -> None:
        """Bytes that left. What the disk refuses is entered the next time."""
        self.sent = entered(self.sent, rows)
        self.sent_bytes, self.sent_peers = totals(self.sent.values())
        self._unwritten = list(entered({}, [*self._unwritten, *rows]).values())
        if self._unwritten and await self._may(self._store.save_sent, self._unwritten):
            self._unwritten = []

    def checkpoint_blobs(self) -> set[Digest]:
        """Training states and best adapters of all generations: what a restart needs, and nobody else's business."""
        kept = self._generations_of_checkpoints()
        return {blob for one in kept for blob in (one.blob, one.best_blob) if blob is not None}

    async def blob(self, digest: Digest) -> Path:
        """Where a blob lies, checked against its digest. Raises StoreError if it is absent or damaged."""
        return await self._in_thread(self._blobs.path, digest)

    async def seen(self, peer: PeerId, order: tuple[int, int]) -> None:
        """So that a replay is refused after a restart too."""
        await self._may(self._store.save_seen, peer, *order)

    async def remember(self, peer: KnownPeer) -> None:
        """A peer that proved good."""
        await self._may(self._store.save_peer, peer)

    async def count_refusal(self, peer: PeerId, reason: str) -> None:
        await self._may(self._store.count_refusal, peer, reason)

    async def ban(self, ban: KeptBan) -> None:
        """So that a restart lets nobody in again, be it with a lost database."""
        await self._may(self._store.save_ban, ban)
        await self._may(self._generations.keep_ban, ban)

    async def lift_ban(self, peer: PeerId) -> None:
        """As if there had been none. First where a restart would take it from."""
        if await self._may(self._generations.lift_ban, peer):
            await self._may(self._store.lift_ban, peer)

    async def forget(self, digests: tuple[Digest, ...]) -> None:
        """Delete blobs, but never what a restart needs."""
        needed = self.checkpoint_blobs()
        await self._may(self._blobs.delete, [digest for digest in digests if digest not in needed])

    def sweep(self, own: Iterable[Digest]) -> None:
        """At the start: delete what no restart needs; `own` are the blobs of the last announcement."""
        self._blobs.sweep(self.checkpoint_blobs() | set(own), resumable_seconds=RESUME_SECONDS)

    def publications_since(self, blob: Digest) -> int | None:
        """How many updates were published since this one, it included; None if it is too long ago to be known."""
        return next((count for count, said in enumerate(reversed(self.publications), 1) if said.blob == blob), None)

    @contextmanager
    def _keeping(self, *files: Path | None) -> Iterator[None]:
        """Meanwhile the scratch folder may be cleared: if the disk refuses for long, their worker may be dead."""
        mine = {file for file in files if file is not None}
        self.incoming |= mine
        try:
            yield
        finally:
            self.incoming -= mine

    def _generations_of_checkpoints(self) -> set[Checkpoint]:
        return {kept for kept in (self.checkpoint, *self._generations.kept.checkpoints) if kept is not None}

    def _drop_undone(self) -> None:
        """Records of rounds that are going to be done again."""
        while self.records and self.checkpoint is not None and self.records[-1].round >= self.checkpoint.round:
            self.records.pop()

    async def _replace(self, checkpoint: Checkpoint, record: StoredRound | None = None) -> None:
        before = self.checkpoint_blobs()
        with for_good("a checkpoint"):
            await self._must(self._store.save_checkpoint, checkpoint, record)
            others = sorted(self._generations_of_checkpoints(), key=age, reverse=True)
            older = [kept for kept in others if kept.blob != checkpoint.blob and age(kept) < age(checkpoint)]
            self.checkpoint = checkpoint
            if record is not None:
                self.records.append(shown(record))
            await self._must(self._generations.keep_checkpoints, (checkpoint, *older))
        await self._may(self._blobs.delete, sorted(before - self.checkpoint_blobs()))

    async def _must(self, function: Callable[..., Result], *arguments: object) -> Result:
        """The result, however long the disk refuses."""
        failures = 0
        while True:
            try:
                result = await self._in_thread(function, *arguments)
            except (LostError, HomeGone):
                raise
            except StoreError as error:
                failures += 1
                self.trouble = f"{error}; {error.hint}" if error.hint else str(error)
                pause = self._pauses.after(failures)
                _log.warning("the disk refused, next attempt in %.0f s: %s", pause, error)
                await asyncio.sleep(pause)
            else:
                self.trouble = ""
                return result

    async def _may(self, function: Callable[..., object], *arguments: object) -> bool:
        """Once; the daemon can do without. Whether it worked."""
        try:
            await self._in_thread(function, *arguments)
        except StoreError as error:
            _log.warning("the disk refused, going on without: %s", error)
            return False
        return True

    async def _in_thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        def guarded() -> Result:
            self._guard()
            return function(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._disk, guarded)
