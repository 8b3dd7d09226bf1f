"""Every model of every peer on text that no peer has: from the exported adapters, as any other tool would load them.

What is measured on never reaches a daemon. A text is all that a peer's test share holds of one source (a module, a
header, a file): pieces of one source are alike, so sources are what intervals count, and a source that two peers are
measured on is one draw in the mean of both. Blocks, since torch does: call it in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfinetune.names import Which
from p2pfinetune.scoring.perplexity import MAX_LOSS
from peerd.demo.plan import CONTEXT, MODEL

if TYPE_CHECKING:
    from p2pfinetune.data.corpus import TokenSplit
    from p2pfinetune.data.documents import Document
    from p2pfinetune.model.base import Base
    from p2pfinetune.scoring.difference import Difference
    from p2pfinetune.scoring.evaluate import Evaluation

MEASURED: tuple[Which, ...] = ("served", "local", "local_best")
"""What is exported; the base is an adapter that adds nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One peer's models on its test text. Losses in nats a token."""

    tokens: int
    base: float
    served: float
    alone: float
    """Of training alone to the end or stopped at its best, whichever is better on this very text: in its favour."""
    against_alone: Difference
    """Served less alone."""


def measure_all(tests: Mapping[str, Sequence[Document]], exports: Mapping[str, Path]) -> dict[str, Measured]:
    """By peer; `exports[peer]` holds a PEFT folder for each of MEASURED."""
    from p2pfinetune.model.base import load_base

    base = load_base(MODEL, device="cpu")
    return {peer: measured(base, tests[peer], folder) for peer, folder in exports.items()}


def measured(base: Base, test: Sequence[Document], exports: Path) -> Measured:
    from p2pfinetune.batched.measuring import evaluate_together
    from p2pfinetune.model.adapter import attach
    from p2pfinetune.model.peft_folder import import_folder
    from p2pfinetune.scoring.difference import difference
    from p2pfinetune.scoring.evaluate import measure_of

    read = {which: import_folder(exports / which) for which in MEASURED}
    adapted = attach(base, read["served"][0])
    split, names = by_source(base, test)
    measure = measure_of(split, context=CONTEXT, vocabulary=int(adapted.model.config.get_text_config().vocab_size))
    adapters = [adapted.initial, *(adapter for _, adapter in read.values())]
    firsts = [next(i for i, other in enumerate(adapters) if other.equals(adapter)) for adapter in adapters]
    apart = sorted(set(firsts))  # what is served may be the twin, whose end may be its best
    found = evaluate_together(adapted, [adapters[i] for i in apart], measure, base.device)
    untrained, served, local, local_best = (finite(found[apart.index(i)]) for i in firsts)
    alone = min(local, local_best, key=lambda evaluation: evaluation.loss)
    return Measured(
        tokens=measure.tokens,
        base=untrained.loss,
        served=served.loss,
        alone=alone.loss,
        against_alone=difference(served, alone, names),
    )


def by_source(base: Base, test: Sequence[Document]) -> tuple[TokenSplit, list[str]]:
    """One document a source, its pieces one behind the other as in training; and the sources."""
    import numpy as np

    from p2pfinetune.data.corpus import TokenSplit
    from p2pfinetune.data.tokens import encode

    pieces: dict[str, list[str]] = {}
    for document in test:
        pieces.setdefault(document.source, []).append(document.text)
    texts = [np.concatenate(list(encode(found, base.tokenizer))) for found in pieces.values()]
    return TokenSplit.of(texts), list(pieces)


def finite(evaluation: Evaluation) -> Evaluation:
    """With the losses of a model that has diverged at the bound above which nothing is told apart."""
    from dataclasses import replace

    import numpy as np

    from p2pfinetune.scoring.paired import token_mean

    per_window = np.minimum(np.nan_to_num(evaluation.per_window, nan=MAX_LOSS, posinf=MAX_LOSS), MAX_LOSS)
    return replace(evaluation, per_window=per_window, loss=token_mean(per_window, evaluation.per_window_tokens))
