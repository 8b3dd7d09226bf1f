"""Keeps the book of what left this device, and shows it.

The transport counts bytes by peer and blob; what it counted is entered when a round ends, once a minute and when the
daemon stops. A crash loses at most what was counted since then; publications and what they spend are never lost,
because they are written before they are spoken.

The two are kept by different rules because they answer different questions. Bytes tell a person what the network cost,
and a minute of them may be missing. Publications tell what was betrayed, and one that is missing would make a privacy
bound false; so each is in the same transaction as its announcement (`Journal.announcement_saved`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pfinetune.names import Digest, PeerId, Round
from peerd.control.answers import Sent, SentRow, SentUpdate
from peerd.core.state import Node, needed
from peerd.daemon.journal import Journal
from peerd.daemon.link import SupervisedTransport
from peerd.daemon.shell import Shell
from peerd.machine.paths import Paths
from peerd.status import Status
from peerd.store.sent import OLDER, SentBytes, attributed
from peerd.wire.shelf import BlobShelf

ENTER_SECONDS: Final = 60.0  # while training rests, rounds may be far apart


class Ledger:
    """Takes what the network counted and has it written down."""

    def __init__(
        self,
        journal: Journal,
        network: SupervisedTransport,
        shell: Shell,
        *,
        clock: Callable[[], float],
        unix: Callable[[], float],
    ) -> None:
        self._journal, self._network, self._shell = journal, network, shell
        self._clock, self._unix = clock, unix
        self._entered_at, self._round = clock(), Round(0)

    async def run(self) -> None:
        """For ever; the shell ticks once a second."""
        async for _ in self._shell.changes():
            if self._shell.node.round != self._round or self._clock() >= self._entered_at + ENTER_SECONDS:
                await self.enter()

    async def enter(self) -> None:
        """What was counted since the last time, as of the round that was."""
        during, self._round = max(self._round, Round(1)), self._shell.node.round
        self._entered_at = self._clock()
        own = {publication.blob: publication.round for publication in self._journal.publications}
        if rows := attributed(self._network.sent(), own, during, self._unix()):
            await self._journal.sent_counted(rows)


def has_published(paths: Paths) -> bool:
    """Whether this home may have published before its database, or the count in it, began."""
    return paths.identity.exists() and (paths.database.exists() or any(f.is_file() for f in paths.blobs.rglob("*")))


class PublicShelf:
    """The shelf as the network sees it: what was announced, by me or by others, and nothing else.

    Checkpoints lie on the same shelf. Their digests are secret, but training can be repeated by whoever guesses the
    text, and a daemon that serves whatever it holds would confirm such a guess.
    """

    def __init__(self, shelf: BlobShelf, is_public: Callable[[Digest], bool]) -> None:
        self._shelf, self._is_public = shelf, is_public
        self.read = shelf.read
        self.partial_size, self.append_partial = shelf.partial_size, shelf.append_partial
        self.complete_partial, self.drop_partial = shelf.complete_partial, shelf.drop_partial

    def size(self, digest: Digest) -> int | None:
        """None for what is not public, as if it were absent."""
        return self._shelf.size(digest) if self._is_public(digest) else None


def is_public(digest: Digest, node: Node, journal: Journal) -> bool:
    """Whether a blob was announced by somebody and is still in use. Called from the network's thread."""
    announced = digest == journal.announced or digest in needed(node)
    return announced and digest not in journal.checkpoint_blobs()


def sent_document(status: Status, journal: Journal, last: int) -> Sent:
    """The book as `peerd sent` shows it, of the last so many rounds."""
    since = max(status.round, Round(1)) - last + 1
    names = {neighbour.peer_id: neighbour.name for neighbour in status.neighbours}
    rows = [row for _, row in sorted(journal.sent.items()) if row.round == OLDER or row.round >= since]
    return Sent(
        since_unix=journal.spending.since_unix,
        total=status.sent,
        privacy=status.privacy,
        updates=[
            SentUpdate(
                round=made.round,
                unix=made.unix,
                blob=made.blob,
                size=made.size,
                clip=made.clip,
                noise=made.noise,
                epsilon=made.epsilon,
            )
            for made in journal.publications
            if made.round >= since
        ],
        rows=[_row(row, names) for row in rows],
    )


def _row(row: SentBytes, names: dict[PeerId, str]) -> SentRow:
    return SentRow(
        round=None if row.round == OLDER else row.round,
        peer_id=row.peer,
        name=names.get(row.peer, ""),
        update_bytes=row.own,
        passed_on_bytes=row.passed_on,
        announcement_bytes=row.gossip,
        last_unix=row.last_unix,
    )
