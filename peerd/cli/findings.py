"""What a reading of somebody's data would find, file by file: without a daemon, a model or a change to anything.

The splits are those of the home's record; what was never dealt is new, whatever it would become, since that depends on
the tokens of all. Which documents are near copies is told of these too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from p2pfinetune.data import dealt as record
from p2pfinetune.data.dealer import Dealer, owner_of
from p2pfinetune.data.dealt import Dealt, NoRecordError, copies_of
from p2pfinetune.data.documents import Document, read_documents
from p2pfinetune.data.encodings import NO_NAMES
from p2pfinetune.data.report import FileRead, ReadReport
from p2pfinetune.data.splits import SPLITS
from p2pfinetune.errors import TextError
from p2pfinetune.names import Digest
from peerd.control.answers import FileFate, TextRead
from peerd.machine.paths import Paths
from peerd.wire.keys import PeerKey
from peerd.worker.texts import text_now

NEW, NOWHERE = "new", "no split"
CHARACTERS_A_TOKEN = 4  # where nothing is tokenised


def read(data: Sequence[Path], paths: Paths, encodings: Mapping[PurePath, str] = NO_NAMES) -> TextRead:
    """What became of every file. Raises TextError, or PeerdError if the home's key or record cannot be used."""
    documents, report = read_documents(data, encodings=encodings)
    rows = recorded(paths)
    found = _with_new(documents, rows)
    return TextRead(
        data=[str(path) for path in data],
        text=text_now(ReadReport(report.entries, copies_of(found.values()))),
        files=[_fate(entry, rows, found) for entry in report.entries],
    )


def recorded(paths: Paths) -> Mapping[Digest, Dealt]:
    """What the home's daemon dealt so far; nothing if it never started.

    Raises TextError if the record cannot be used: nothing else knows what is held out, and nothing is new for sure.
    """
    if not (paths.identity.exists() and paths.splits.exists()):
        return {}
    salt = PeerKey.load_or_create(paths.identity, used=True).peer_id
    try:
        return record.read(paths.splits, owner_of(salt))
    except NoRecordError as error:
        raise TextError(
            f"the record of which documents are held out, {paths.splits}, cannot be used: {error}",
            "the daemon makes it again if it can, and says so: peerd start   to look at files without the record: "
            "peerd read --home ANOTHER-FOLDER --data FOLDER",
        ) from error


def _with_new(documents: Sequence[Document], rows: Mapping[Digest, Dealt]) -> Mapping[Digest, Dealt]:
    sizes = {document.id: 1 + len(document.text) // CHARACTERS_A_TOKEN for document in documents}
    return Dealer("", rows=dict(rows)).deal(documents, sizes, dict.fromkeys(SPLITS, 0))


def _fate(entry: FileRead, rows: Mapping[Digest, Dealt], found: Mapping[Digest, Dealt]) -> FileFate:
    places = Counter((rows[one].split or NOWHERE) if one in rows else NEW for one in entry.ids)
    return FileFate(
        path=entry.path,
        reason=entry.reason,
        documents=entry.documents,
        characters=entry.characters,
        repeated=entry.repeated,
        bad_rows=entry.bad_rows,
        encoding=entry.encoding,
        guesses=list(entry.guesses),
        replaced=entry.replaced,
        left_out=dict(entry.left_out),
        near_copies=sum(found[one].is_near for one in entry.ids),
        splits=dict(places),
    )
