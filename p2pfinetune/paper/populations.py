"""The peers of a setting with text of their own: drawn from the data folder, dealt disjointly, in tokens of the base.

The same seed gives everyone the same text, whatever the scheme; another seed gives everyone other text. What a peer is
declared to hold is what it holds, in every split to within a token. Nothing is cached and nothing trains.

A quota is so many tokens of one category for one split of one peer. All quotas of a category are filled from one well
in one pass over its documents, so no document is dealt twice. If the text does not suffice, the error says the largest
scale that does, found by bisection on the well that is drawn already.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pfinetune.data.corpus import Corpus
from p2pfinetune.data.population import Population
from p2pfinetune.data.report import FileRead, ReadReport
from p2pfinetune.data.splits import SPLITS, Split
from p2pfinetune.data.token_cache import TokenSplit
from p2pfinetune.data.tokens import TokenArray
from p2pfinetune.errors import TextError
from p2pfinetune.model.base import Base
from p2pfinetune.names import PeerId
from p2pfinetune.paper.pool import Well, cut_to, draw, fill, lengths
from p2pfinetune.paper.settings import Layout, Mix, Setting, layout, reference_tokens, split_tokens

TEST = " (test)"  # the well of a category's test file, where it has one
LEAST_SCALE = 1e-6  # every split is at its floor


@dataclass(frozen=True, slots=True)
class Quota:
    """So many tokens of one category for one split of one peer, or for the reference text of all."""

    owner: PeerId | None
    split: Split | None
    tokens: int


def populate(
    setting: Setting, mix: Mix, *, base: Base, data: Path, scale: float, seed: int, test_tokens: int = 0
) -> Population:
    """The peers of a setting with their text; `scale` 1 is the paper's size. `test_tokens`: so many in a test split.

    Raises TextError if a file is absent, or if there is too little text, with the largest scale that fits. Only
    AG News shrinks instead: there the paper's size is half a class each, and here is a quarter of the paper's rows.
    """
    if not data.is_dir():
        raise TextError(f"there is no data folder {data}", "give the folder that holds ag_news, wikineural, ...")
    plan = layout(setting, mix)
    wanted = _quotas(plan, scale, test_tokens)
    wells = _wells(plan)
    tokens = {name: [quota.tokens for quota in quotas] for name, quotas in wanted.items()}
    if short := draw(wells, tokens, data=data, seed=seed, tokenizer=base.tokenizer):
        largest = _largest_scale(scale, lambda smaller: _fits(wells, _quotas(plan, smaller, test_tokens)))
        if not plan.shrinks or largest is None:
            raise _too_little(f"{setting} {mix}", short, wells, wanted, largest)
        wanted = _quotas(plan, largest, test_tokens)
    dealt = {name: _deal(wells[name].documents, quotas) for name, quotas in wanted.items()}
    texts = {peer: _corpus(peer, dealt) for peer in plan.peers()}
    reference = TokenSplit.of([text for given in dealt.values() for text in given.get((None, None), [])])
    names = tuple(category.name for category in plan.categories)
    return Population(texts, names, dict(zip(plan.peers(), plan.shares, strict=True)), reference)


def tokens_per_peer(population: Population) -> str:
    """A line a peer: its declared shares and the tokens of each split."""
    width = max(map(len, population.peers))
    lines = [f"{'peer':<{width}}  {'  '.join(f'{split:>9}' for split in SPLITS)}  declared"]
    for peer in population.peers:
        counts = "  ".join(f"{tokens:>9,}" for tokens in population.tokens(peer).values())
        pairs = zip(population.categories, population.shares[peer], strict=True)
        lines.append(f"{peer:<{width}}  {counts}  {', '.join(f'{name} {part:.0%}' for name, part in pairs if part)}")
    if population.reference is not None:
        lines.append(f"reference text: {len(population.reference.tokens):,} tokens")
    return "\n".join(lines)


def _wells(plan: Layout) -> dict[str, Well]:
    wells = {category.name: Well(category.sources) for category in plan.categories}
    tests = {category.name + TEST: Well(category.test_sources) for category in plan.categories if category.test_sources}
    return wells | tests


def _quotas(plan: Layout, scale: float, test_tokens: int) -> dict[str, list[Quota]]:
    """What is wanted of every well."""
    sizes, found = split_tokens(scale, test_tokens), {name: list[Quota]() for name in _wells(plan)}
    for peer, row in zip(plan.peers(), plan.shares, strict=True):
        for category, share in zip(plan.categories, row, strict=True):
            for split in SPLITS if share else ():
                has_own_file = split == "test" and category.test_sources
                well = category.name + TEST if has_own_file else category.name
                found[well].append(Quota(peer, split, round(share * sizes[split])))
    for category in plan.categories:
        found[category.name].append(Quota(None, None, reference_tokens(scale, len(plan.categories))))
    return found


Dealt = Mapping[tuple[PeerId | None, Split | None], list[TokenArray]]


def _deal(documents: Sequence[TokenArray], quotas: Sequence[Quota]) -> Dealt:
    ranges = fill(lengths(documents), [quota.tokens for quota in quotas])
    if ranges is None:
        raise ValueError("the well was filled for these quotas")
    return {
        (quota.owner, quota.split): cut_to([documents[i] for i in chosen], quota.tokens)
        for quota, chosen in zip(quotas, ranges, strict=True)
    }


def _corpus(peer: PeerId, dealt: Mapping[str, Dealt]) -> Corpus:
    found: dict[Split, TokenSplit] = {}
    content = hashlib.sha256()
    for split in SPLITS:
        found[split] = TokenSplit.of([text for given in dealt.values() for text in given.get((peer, split), [])])
        content.update(f"{split} {found[split].starts.tolist()}".encode())
        content.update(found[split].tokens.astype("<u4").tobytes())
    documents = sum(text.documents for text in found.values())
    report = ReadReport((FileRead(path=peer, documents=documents),))
    return Corpus(**{str(split): text for split, text in found.items()}, report=report, fingerprint=content.hexdigest())


def _fits(wells: Mapping[str, Well], wanted: Mapping[str, Sequence[Quota]]) -> bool:
    return all(
        fill(lengths(wells[name].documents), [quota.tokens for quota in quotas]) is not None
        for name, quotas in wanted.items()
    )


def _largest_scale(below: float, fits: Callable[[float], bool]) -> float | None:
    """In two digits, rounded down; none if not even the least that measures anything is there."""
    if not fits(LEAST_SCALE):
        return None
    low, high = LEAST_SCALE, below
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    unit = 10.0 ** (math.floor(math.log10(low)) - 1)
    return math.floor(low / unit) * unit


def _too_little(
    place: str,
    short: Sequence[str],
    wells: Mapping[str, Well],
    wanted: Mapping[str, Sequence[Quota]],
    largest: float | None,
) -> TextError:
    each = "; ".join(
        f"{name} has {wells[name].tokens:,} tokens of {sum(quota.tokens for quota in wanted[name]):,}" for name in short
    )
    hint = f"the largest scale that fits is {largest:.2g}" if largest else "no scale is small enough"
    return TextError(
        f"too little text for {place}, near-duplicates aside and documents not divided between peers: {each}",
        f"{hint} with these files and this tokenizer",
    )
