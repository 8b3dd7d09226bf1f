"""The user's text as the worker reads it, and what is told of it. torch is loaded with the first reading."""

from __future__ import annotations

import time
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, Literal

from peerd.config import Config
from peerd.status import TextNow
from peerd.worker.messages import Open

if TYPE_CHECKING:
    from p2pfinetune.data.corpus import Corpus
    from p2pfinetune.data.dealer import Dealer
    from p2pfinetune.data.reading_memory import ReadingMemory
    from p2pfinetune.data.report import ReadReport
    from p2pfinetune.data.telling import Tell
    from p2pfinetune.model.base import Base

NAMES: Final[tuple[Literal["train", "trust", "guard", "test"], ...]] = ("train", "trust", "guard", "test")


def dealer_of(job: Open) -> Dealer:
    """Who deals this peer's documents, by a salt that is its own, with the record of what was dealt before."""
    from p2pfinetune.data.dealer import Dealer

    has_learnt = job.checkpoint is not None or job.best is not None
    return Dealer.open(job.me, Path(job.splits), Path(job.cache) / "tokens", has_learnt=has_learnt)


def read_text(config: Config, base: Base, cache: Path, dealer: Dealer, memory: ReadingMemory, tell: Tell) -> Corpus:
    """The user's documents, dealt into splits. `tell` hears how far it is."""
    from p2pfinetune.data.corpus import prepare
    from p2pfinetune.model.soundness import check_text

    corpus = prepare(
        [Path(path) for path in config.data],
        base.tokenizer,
        tokenizer_digest=base.tokenizer_digest,
        cache=cache / "tokens",
        context=config.context,
        salt=dealer.salt,
        dealer=dealer,
        memory=memory,
        now_ns=time.time_ns(),
        encodings=encodings(config),
        me=config.me,
        loss=config.loss,
        tell=tell,
        keep_secrets=config.keep_secrets,
    )
    check_text(base.name, base.model, corpus)
    return corpus


def encodings(config: Config) -> dict[PurePath, str]:
    """What the user said of text that is not Unicode."""
    return {PurePath(path): name for path, name in config.encoding.items()}


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
        conversations=report.conversations,
        refused=report.refused,
        encodings=dict(report.encodings),
        replaced=report.replaced,
        copies_together=report.copies.together,
        copies_left_out=report.copies.left_out,
    )


def read_reference(config: Config, base: Base) -> Any:
    """The public text of prediction similarity, if the user gave one."""
    if not config.reference:
        return None
    from p2pfinetune.data.corpus import read_whole

    said: dict[str, Any] = {"encodings": encodings(config), "keep_secrets": config.keep_secrets}
    return read_whole([Path(config.reference)], base.tokenizer, context=config.context, **said)


def told(corpus: Corpus) -> list[str]:
    """The report in sentences, and how the text was dealt."""
    dealt = ", ".join(f"{name} {corpus.split(name).counted_tokens:,}" for name in NAMES)
    return [*corpus.report.sentences(), f"tokens: {dealt}"]
