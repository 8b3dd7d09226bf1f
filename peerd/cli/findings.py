"""What a reading of somebody's data would come to, file by file: without a daemon, weights or a change to anything.

The splits are those of the home's record; what was never dealt is dealt as the next start would deal it, which is the
same if nothing changes until then. Without a home there is no salt yet, and the splits are of the same size only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfinetune.data import dealt as record
from p2pfinetune.data.dealer import Dealer, owner_of
from p2pfinetune.data.dealt import Dealt, NoRecordError
from p2pfinetune.data.documents import read_documents
from p2pfinetune.data.report import FileRead
from p2pfinetune.data.telling import Tell
from p2pfinetune.errors import TextError
from p2pfinetune.names import Digest
from peerd.cli.output import complain
from peerd.config import Config
from peerd.control.answers import DataLooked, ExamplePart, ExampleShown, FileFate
from peerd.machine.paths import Paths
from peerd.wire.keys import PeerKey
from peerd.worker.texts import encodings, text_now

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from p2pfinetune.data.foresight import Foresight

NOWHERE = "no split"
NAMED = 10  # files that each file is said to resemble


def look(config: Config, paths: Paths, examples: int, tell: Tell) -> DataLooked:
    """What became of every file. Raises TextError, ModelError, or PeerdError if the home's key cannot be used."""
    documents, report = read_documents(
        [Path(path) for path in config.data],
        encodings=encodings(config),
        me=config.me,
        keep_secrets=config.keep_secrets,
        tell=tell,
    )
    salt, rows = recorded(paths)
    from p2pfinetune.data.foresight import foreseen  # transformers, which the help does without
    from p2pfinetune.model.base import load_tokenizer

    tokenizer, dealer = load_tokenizer(config.model, complain), Dealer(salt, rows=dict(rows))
    found = foreseen(documents, report, tokenizer, dealer, context=config.context, loss=config.loss, tell=tell)
    links = _Links(found)
    return DataLooked(
        data=list(config.data),
        model=config.model,
        text=text_now(found.report),
        loss=config.loss,
        tokens={str(split): count for split, count in found.tokens_by_split().items()},
        new=sum(document not in rows for document in found.documents),
        has_home=bool(salt),
        lacking=found.lacking,
        examples=_examples(found, tokenizer, examples),
        files=[_fate(entry, rows, found, links) for entry in found.report.entries],
    )


def recorded(paths: Paths) -> tuple[str, Mapping[Digest, Dealt]]:
    """The salt of the home and what its daemon dealt so far; empty if it never started.

    Raises TextError if the record cannot be used: nothing else knows what is held out, and nothing is new for sure.
    """
    if not paths.identity.exists():
        return "", {}
    salt = PeerKey.load_or_create(paths.identity, used=True).peer_id
    if not paths.splits.exists():
        return salt, {}
    try:
        return salt, record.read(paths.splits, owner_of(salt))
    except NoRecordError as error:
        raise TextError(
            f"the record of which documents are held out, {paths.splits}, cannot be used: {error}",
            "the daemon makes it again if it can, and says so: peerd start   to look at files without the record: "
            "peerd data --home ANOTHER-FOLDER --data FOLDER",
        ) from error


class _Links:
    """Which files have documents in common, or near copies of one another's."""

    def __init__(self, found: Foresight) -> None:
        self._found = found

    @cached_property
    def _groups(self) -> dict[Digest, Sequence[Digest]]:
        return {one: members for members in self._found.groups for one in members}

    @cached_property
    def _files(self) -> dict[Digest, list[str]]:
        files: dict[Digest, list[str]] = {}
        for entry in self._found.report.entries:
            for one in (*entry.ids, *entry.again):
                files.setdefault(one, []).append(entry.path)
        return files

    def near(self, entry: FileRead) -> int:
        """How many of its documents are near copies."""
        return sum(self._found.rows[one].is_near or one in self._groups for one in entry.ids)

    def equal_to(self, entry: FileRead) -> list[str]:
        """Other files with documents of this one."""
        return _some((self._files[one] for one in (*entry.ids, *entry.again)), entry.path)

    def near_to(self, entry: FileRead) -> list[str]:
        """Other files with near copies of documents of this one."""
        others = (other for one in entry.ids for other in self._groups.get(one, ()) if other != one)
        return _some((self._files[other] for other in others), entry.path)


def _some(files: Iterable[Sequence[str]], but: str) -> list[str]:
    """The first of them, each once."""
    different = dict.fromkeys(file for file in chain.from_iterable(files) if file != but)
    return list(islice(different, NAMED))


def _examples(found: Foresight, tokenizer: PreTrainedTokenizerBase, count: int) -> list[ExampleShown]:
    """The first documents of train, then of the others: they stand in the order of their digests, so a fair draw."""
    from p2pfinetune.data.chats.marking import ChatRefusal, token_documents
    from p2pfinetune.data.tokens import passages

    placed = [(one, split) for split, documents in found.placed().items() for one in documents if found.tokens[one]]
    chosen, splits = [found.documents[one] for one, _ in placed[:count]], [split for _, split in placed[:count]]
    shown = zip(chosen, token_documents(chosen, tokenizer, found.report.loss), strict=True)
    return [
        ExampleShown(
            source=document.source,
            split=split,
            tokens=len(made.ids),
            learnt=made.size,
            parts=[ExamplePart(text=text, is_learnt=is_learnt) for text, is_learnt in passages(made, tokenizer)],
        )
        for (document, made), split in zip(shown, splits, strict=True)
        if not isinstance(made, ChatRefusal)
    ]


def _fate(entry: FileRead, rows: Mapping[Digest, Dealt], found: Foresight, links: _Links) -> FileFate:
    return FileFate(
        path=entry.path,
        reason=entry.reason,
        documents=entry.documents,
        conversations=entry.conversations,
        characters=entry.characters,
        tokens=sum(found.tokens[one] for one in entry.ids),
        repeated=entry.repeated,
        bad_rows=entry.bad_rows,
        encoding=entry.encoding,
        guesses=list(entry.guesses),
        replaced=entry.replaced,
        left_out=dict(entry.left_out),
        near_copies=links.near(entry),
        equal_to=links.equal_to(entry),
        near_to=links.near_to(entry),
        splits=dict(Counter(found.rows[one].split or NOWHERE for one in entry.ids)),
        new=sum(one not in rows for one in entry.ids),
    )
