"""The user's text as the worker reads it, and what is told of it. torch is loaded with the first reading."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from p2pfinetune.names import PeerId
from peerd.config import Config
from peerd.status import TextNow

if TYPE_CHECKING:
    from p2pfinetune.data.corpus import Corpus
    from p2pfinetune.data.reading_memory import ReadingMemory
    from p2pfinetune.data.report import ReadReport
    from p2pfinetune.models import Base

NAMES: Final[tuple[Literal["train", "trust", "guard", "test"], ...]] = ("train", "trust", "guard", "test")


def read_text(config: Config, base: Base, cache: Path, me: PeerId, memory: ReadingMemory) -> Corpus:
    """The user's documents, dealt into splits by a salt that is the peer's own."""
    from p2pfinetune.data.corpus import prepare

    return prepare(
        [Path(path) for path in config.data],
        base.tokenizer,
        tokenizer_digest=base.tokenizer_digest,
        cache=cache / "tokens",
        context=config.context,
        salt=me,
        memory=memory,
        now_ns=time.time_ns(),
    )


def text_now(report: ReadReport) -> TextNow:
    """The report in figures, as the status shows it."""
    return TextNow(
        files=report.files,
        documents=report.documents,
        characters=report.characters,
        skipped={reason: len(paths) for reason, paths in report.skipped.items()},
        left_out=dict(report.left_out),
        repeated=report.repeated,
        bad_rows=report.bad_rows,
        encodings=dict(report.encodings),
        replaced=report.replaced,
    )


def read_reference(config: Config, base: Base) -> Any:
    """The public text of prediction similarity, where the user gave one."""
    if not config.reference:
        return None
    from p2pfinetune.data.corpus import read_whole

    return read_whole([Path(config.reference)], base.tokenizer, context=config.context)


def told(corpus: Corpus) -> list[str]:
    """The report in sentences, and how the text was dealt."""
    dealt = ", ".join(f"{name} {len(corpus.split(name).tokens):,}" for name in NAMES)
    return [*corpus.report.sentences(), f"tokens: {dealt}"]
