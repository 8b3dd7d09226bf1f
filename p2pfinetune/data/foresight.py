"""What a reading would come to, with nothing written: the documents, their splits and tokens, and who resembles whom.

What was dealt before is where the record says. The rest is dealt as the next reading would deal it, from the tokens of
all, so that with the salt of the home it is what will come; a person is told of both, and which is which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from p2pfinetune.data.chats.marking import ChatRefusal, token_documents
from p2pfinetune.data.corpus import minimum_tokens, require
from p2pfinetune.data.dealer import Dealer
from p2pfinetune.data.dealing import alike
from p2pfinetune.data.dealt import Dealt, copies_of
from p2pfinetune.data.documents import Document
from p2pfinetune.data.report import ReadReport
from p2pfinetune.data.splits import SPLITS, Split
from p2pfinetune.data.telling import COMPARING, ENCODING, Tell, each, silent
from p2pfinetune.errors import TooLittleText
from p2pfinetune.names import Digest, Loss

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """All by the ids of documents."""

    documents: Mapping[Digest, Document]
    rows: Mapping[Digest, Dealt]
    """Where each is, or would be."""
    tokens: Mapping[Digest, int]
    groups: Sequence[Sequence[Digest]]
    """Near copies of one another, two at least."""
    report: ReadReport
    lacking: str
    """Why the text is too little; empty if it is enough."""

    def placed(self) -> dict[Split, list[Digest]]:
        """The documents of each split in the order in which they stand in it."""
        found: dict[Split, list[Digest]] = {split: [] for split in SPLITS}
        for document in sorted(self.rows):
            if (split := self.rows[document].split) is not None:
                found[split].append(document)
        return found

    def tokens_by_split(self) -> dict[Split, int]:
        """How much each split holds."""
        return {split: sum(self.tokens[d] for d in documents) for split, documents in self.placed().items()}


def foreseen(
    documents: Sequence[Document],
    report: ReadReport,
    tokenizer: PreTrainedTokenizerBase,
    dealer: Dealer,
    *,
    context: int,
    loss: Loss = "answers",
    tell: Tell = silent,
) -> Foresight:
    """What would become of these documents; the dealer keeps nothing of it."""
    made = each(token_documents(documents, tokenizer, loss), tell, ENCODING, len(documents))
    sizes = [0 if isinstance(one, ChatRefusal) else one.size for one in made]
    tokens = {document.id: size for document, size in zip(documents, sizes, strict=True)}
    refused = sum(not tokens[document.id] for document in documents if document.turns)
    tell(COMPARING, 0, len(documents))
    rows = dealer.deal(documents, tokens, minimum_tokens(context))
    groups = alike(documents, dealer.looked)
    found = Foresight(
        documents={document.id: document for document in documents},
        rows=rows,
        tokens=tokens,
        groups=groups,
        report=replace(report, copies=copies_of(rows.values()), loss=loss, refused=refused),
        lacking="",
    )
    try:
        require(found.tokens_by_split(), minimum_tokens(context), found.report, dealer)
    except TooLittleText as error:
        return replace(found, lacking=str(error))
    return found
