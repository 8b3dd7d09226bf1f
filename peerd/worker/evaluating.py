"""Measures a peer's models on a text that somebody names, or on the own test split, piece by piece.

A text may be long, and somebody may want an answer of the model meanwhile: so the windows are cut into pieces of some
thousand tokens, every model is measured on a piece before the next one, and between two pieces quick jobs are done; so
they are between the files that are read first. Each is a sign of life: a large folder is no hang.
Nothing here trains, and no weight is touched.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfinetune.errors import TooLittleText
from p2pfinetune.names import Which
from peerd.config import Config
from peerd.worker.messages import EvaluateText, TextEvaluated
from peerd.worker.texts import encodings, text_now

if TYPE_CHECKING:
    from p2pfinetune.data.corpus import LooseText, TokenSplit
    from p2pfinetune.data.dealer import Dealer
    from p2pfinetune.data.telling import Tell
    from p2pfinetune.model.base import Base
    from p2pfinetune.round.learner import Learner
    from p2pfinetune.scoring.evaluate import Evaluation

PIECE = 2048  # tokens of one model between two looks for quick jobs
MEASURING = "evaluating"


def evaluated(
    job: EvaluateText,
    learner: Learner,
    base: Base,
    dealer: Dealer,
    config: Config,
    cache: Path,
    tell: Tell,
) -> TextEvaluated:
    """The models side by side; `tell` hears how far it is. TextError, TooLittleText name the text."""
    from p2pfinetune.data.report import ReadReport
    from p2pfinetune.round.side_by_side import side_by_side
    from p2pfinetune.scoring.evaluate import divided, joined

    text = _read(job, base, config, cache, tell) if job.files else None
    split: TokenSplit = text.split if text is not None else learner.split("test")
    measure = learner.measure(split, job.max_tokens)
    if not measure.tokens:
        left_out = "; ".join((text.report if text is not None else ReadReport(())).sentences())
        raise TooLittleText(
            f"there is nothing to measure{': ' + left_out if left_out else ''}", "name a file with more text"
        )
    models = models_of(learner)
    pieces = divided(measure, -(-measure.tokens // PIECE))
    found: dict[Which, list[Evaluation]] = {which: [] for which in models}
    for done, piece in enumerate(pieces):
        tell(MEASURING, done, len(pieces))
        for which, one in learner.evaluate_on(piece, models).items():
            found[which].append(one)
    whole = {which: joined(measure, parts) for which, parts in found.items()}
    return TextEvaluated(
        id=job.id,
        models=side_by_side(whole),
        served_by=learner.served,
        tokens=measure.tokens,
        documents=whole["base"].documents,
        windows=len(measure.per_window_tokens),
        of_tokens=split.counted_tokens,
        of_documents=split.documents,
        known=_known(text, dealer),
        text=text_now(text.report) if text is not None else None,
    )


def _read(job: EvaluateText, base: Base, config: Config, cache: Path, tell: Tell) -> LooseText:
    from p2pfinetune.data.corpus import read_loose

    return read_loose(
        [Path(path) for path in job.files],
        base.tokenizer,
        encodings=encodings(config),
        me=config.me,
        keep_secrets=config.keep_secrets,
        loss=config.loss,
        spool=cache / "tokens",
        tell=tell,
    )


def models_of(learner: Learner) -> tuple[Which, ...]:
    """The models that exist here; of the twin also its best by guard loss, since claims are made against the better."""
    return ("base", "own", "personal", "served", *(("local", "local_best") if learner.has_twin else ()))


def _known(text: LooseText | None, dealer: Dealer) -> dict[str, int]:
    """How many of the documents stand, word for word, in which split of the own text."""
    if text is None:
        return {}
    dealt = (dealer.rows.get(document) for document in text.documents)
    return dict(Counter(str(row.split) for row in dealt if row is not None and row.split is not None))
