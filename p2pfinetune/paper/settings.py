"""The three settings of arXiv 2404.09753: which categories of text there are, and who holds how much of each.

Differences from the released code, which did not deal what its paper says, are named where they are made; `D3`, `D11`
and so on stand for its defects as docs/reproduction/settings.md lists them. Nothing here reads a file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from p2pfinetune.data.splits import Split
from p2pfinetune.errors import OptionError
from p2pfinetune.names import PeerId
from p2pfinetune.paper.sources import Source, java, news, novels, sentences, wikitext

Setting = Literal["ag-news", "languages", "code-wiki"]
Mix = Literal["specific", "mixed"]

TRAIN, HELD_OUT, REFERENCE = 840_000, 160_000, 300_000  # tokens: of a peer, of a peer, of a category
# The paper trusts and reports on the same held-out text. Here it is divided into trust and guard, and as much again is
# the test split, which nothing but the reported figure ever sees.
LEAST: dict[Split, int] = {"train": 1024, "trust": 1024, "guard": 1024, "test": 4096}  # tokens: less measures nothing
LEAST_REFERENCE = 64 * 64  # tokens of all categories: the contexts that prediction similarity takes, of their length

MAIN, REST = 3 / 4, 1 / 4  # of the text of a mixed peer


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of text and where it comes from, the source to be used up first in front."""

    name: str
    sources: tuple[Source, ...]
    test_sources: tuple[Source, ...] = ()
    """Of the test splits, where the data come with a test file of their own; otherwise the same sources."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Who holds what in one setting and mix."""

    categories: tuple[Category, ...]
    shares: tuple[tuple[float, ...], ...]
    """A row a peer over the categories; each sums to one, and the largest names the peer."""
    shrinks: bool = False
    """At a scale for which there is too little text, everybody gets less, down to the least that measures anything."""

    def peers(self) -> tuple[PeerId, ...]:
        """`fr-1`, `fr-2`, ..., `de-1`, ...: the main category, and a number within it."""
        main = [self.categories[row.index(max(row))].name for row in self.shares]
        return tuple(PeerId(f"{name}-{main[: i + 1].count(name)}") for i, name in enumerate(main))


def layout(setting: Setting, mix: Mix) -> Layout:
    """The peers of a setting. Raises OptionError for a name that does not exist."""
    match setting, mix:
        case "ag-news", "specific":  # D3: the peers of one class are neighbours, in the shares as in the data
            return Layout(_news_classes(), _specific([0, 0, 1, 1, 2, 2, 3, 3], 4), shrinks=True)
        case "ag-news", "mixed":  # pairs 0-1 and 2-3
            return Layout(_news_classes(), _mixed([(0, 1), (1, 0), (2, 3), (3, 2)], 4), shrinks=True)
        case "languages", "specific":
            return Layout(_languages(), _specific([0, 0, 0, 1, 1, 1, 2, 2, 2], 3))
        case "languages", "mixed":  # D11: the partner is the next language, and never the own one
            return Layout(_languages(), _mixed([(i, (i + 1) % 3) for i in (0, 0, 0, 1, 1, 1, 2, 2, 2)], 3))
        case "code-wiki", "specific":
            return Layout(_code_and_wikipedia(), _specific([0, 1] * 4, 2))
        case "code-wiki", "mixed":  # D12: even peers hold mostly Wikipedia, odd ones mostly code
            return Layout(_code_and_wikipedia(), _mixed([(0, 1), (1, 0)] * 4, 2))
    raise OptionError(
        f"there is no setting '{setting}' with mix '{mix}'",
        "settings are ag-news, languages and code-wiki; mixes are specific and mixed",
    )


def first_of_each(setting: Setting, mix: Mix, count: int) -> tuple[PeerId, ...]:
    """The first peers of each main category, in the order of the layout; all of them for 0."""
    peers = layout(setting, mix).peers()
    return tuple(peer for peer in peers if int(peer.rpartition("-")[2]) <= count) if count else ()


def split_tokens(scale: float, test_tokens: int = 0) -> dict[Split, int]:
    """What each peer holds; `scale` 1 is the paper's size. `test_tokens`, if given, that of test splits."""
    if not (math.isfinite(scale) and scale > 0.0):
        raise OptionError(f"a scale is a positive number, not {scale}", "1 is the paper's size, 1/70 suits a laptop")
    nominal: dict[Split, int] = {"train": TRAIN, "trust": HELD_OUT // 2, "guard": HELD_OUT // 2, "test": HELD_OUT}
    found = {split: max(LEAST[split], round(scale * tokens)) for split, tokens in nominal.items()}
    return found | ({"test": test_tokens} if test_tokens else {})


def reference_tokens(scale: float, categories: int) -> int:
    """What each category gives to the public text of prediction similarity."""
    return max(-(-LEAST_REFERENCE // categories), round(scale * REFERENCE))


def _specific(main: Sequence[int], categories: int) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(i == own) for i in range(categories)) for own in main)


def _mixed(pairs: Sequence[tuple[int, int]], categories: int) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple({own: MAIN, other: REST}.get(i, 0.0) for i in range(categories)) for own, other in pairs)


def _news_classes() -> tuple[Category, ...]:
    train, test = "ag_news/ag_news_train.jsonl", "ag_news/ag_news_test.jsonl"
    # Rows whose title and description are glued together are taken once the clean ones are used up.
    return tuple(
        Category(
            name,
            (news(train, label, clean=True), news(train, label, clean=False)),
            (news(test, label),),
        )
        for label, name in enumerate(("world", "sports", "business", "sci-tech"))
    )


def _languages() -> tuple[Category, ...]:
    novels_of = {"fr": "fra", "de": "deu", "it": "ita"}
    return tuple(
        Category(name, (sentences(f"wikineural/{name}.txt"), novels(f"novels/{file}.jsonl.gz")))
        for name, file in novels_of.items()
    )


def _code_and_wikipedia() -> tuple[Category, ...]:
    wikipedia = (
        sentences("wikineural/en.txt"),
        wikitext("wikitext2/valid.txt"),
        wikitext("wikitext2/test.txt"),
    )
    return Category("wiki", wikipedia), Category("java", (java("java/commons-lang.jsonl.gz"),))
