"""What a sweep shows, scheme by scheme: perplexities with their spread, and comparisons with training alone.

Pure functions of values. Everything is on the test split, of the checkpoint with the best guard loss unless it says
"last". Comparisons are paired: the same peer with the same seed, so with the same text and the same order of batches.

A mean over peers hides who pays: personalisation is for each of them, so the share of peers that are better off, the
share that are worse off (with a Wilson interval, for a share of few), and the tail are told beside it: the mean over
the tenth of all (peer, seed) pairs, at least one, that came off worst. HiLoRA (arXiv 2603.02785) reports the tenth of
clients with the worst figure itself; that is `worst_tenth_perplexity`. It picks those whose text is hard, whatever
the scheme, so `worst_tenth_change` picks by what a peer has of collaboration: its perplexity relative to training
alone. "Gap closed" is how much of what the theoretical weights gain a scheme gains; a ratio of two noisy numbers, so
it is told only if the denominator is clear of noise. Spreads are over seeds, which draw text, splits and batches
anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Annotated

import msgspec
from msgspec import Meta

from p2pfinetune.compare.beside_local import DocumentLosses, clearly
from p2pfinetune.compare.folders import Run, RunResult, SplitLosses, Sweep
from p2pfinetune.names import PeerId
from p2pfinetune.scoring.difference import worst_tenth
from p2pfinetune.scoring.perplexity import as_change, has_diverged, perplexity

LOCAL, ORACLE = "local", "theoretical"
ORDER = (
    LOCAL,
    "fedavg",
    ORACLE,
    "weight-similarity",
    "validation",
    "prediction-similarity",
    "mixture",
    "first-order",
    "default",
)
"""In which tables and plots show schemes; any other follows in alphabetical order."""

THRESHOLD = 0.005  # of perplexity: less is neither better nor worse
NOISE = 2.0  # standard errors over seeds that the oracle's gain has to exceed for a share of it to mean anything
WILSON_Z = 1.959964  # of a two-sided 95 % interval


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Over peers and seeds."""

    min: int
    mean: float
    max: int


class SchemeSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One scheme over its seeds; a standard deviation is that of a sample, null for one seed."""

    name: str
    seeds: Annotated[list[int], Meta(description="Those whose run is complete.")]
    perplexity_mean: Annotated[float, Meta(description="Over seeds, of exp(mean over peers of the test loss).")]
    perplexity_std: float | None
    last_perplexity_mean: Annotated[
        float | None, Meta(description="Of the last adapter instead of the one with the best guard loss.")
    ]
    worst_tenth_perplexity: Annotated[
        float,
        Meta(description="Of the tenth of (peer, seed), at least one, with the highest: exp of their mean test loss."),
    ]
    nats_mean: Annotated[float, Meta(description="Test loss, nats a token.")]
    nats_std: float | None
    gain_nats_mean: Annotated[
        float | None,
        Meta(description="Test loss of local less that of the scheme; null without a local run to compare with."),
    ]
    gain_nats_std: Annotated[float | None, Meta(description="Over seeds, each paired with local of the same seed.")]
    gap_closed: Annotated[
        float | None, Meta(description="(local - scheme) / (local - theoretical) in perplexity, mean over seeds.")
    ]
    gap_closed_std: float | None
    gap_closed_absent: Annotated[str | None, Meta(description="Why there is no `gap_closed`.")]
    better_than_local: Annotated[
        float | None, Meta(description="Share of (peer, seed) whose perplexity is more than 0.5 % below that of local.")
    ]
    worse_than_local: Annotated[float | None, Meta(description="Likewise above.")]
    worse_than_local_interval: Annotated[
        tuple[float, float] | None, Meta(description="Wilson's 95 % interval, as if all (peer, seed) were independent.")
    ]
    worst_tenth_change: Annotated[
        float | None,
        Meta(
            description="Change of perplexity against local (-0.08: 8 % lower), paired, of the tenth of (peer, seed), "
            "at least one, with the least of it: exp of their mean difference in test loss, less 1."
        ),
    ]
    pairs: Annotated[int, Meta(description="How many (peer, seed) those shares are of.")]
    clearly_better: Annotated[
        float | None,
        Meta(description="Share of (peer, seed) below local by more than the 95 % interval over their documents."),
    ]
    clearly_worse: Annotated[float | None, Meta(description="Likewise above.")]
    bytes: Annotated[float, Meta(description="All peers' traffic, mean over seeds.")]
    seconds: Annotated[float, Meta(description="Of wall time, mean over seeds.")]
    peak_bytes: Annotated[
        float | None, Meta(description="Of the process that ran all peers, mean over seeds; null if that is not known.")
    ]
    own_category_trust: Annotated[
        float | None,
        Meta(
            description="Chance that text of a peer drawn by my weights for others is of the category of my own "
            "text; over all merges."
        ),
    ]
    own_category_by_chance: Annotated[
        float | None, Meta(description="The same for a peer that trusts all others alike.")
    ]
    merges: Annotated[int, Meta(description="Over all seeds.")]
    merges_refused: Annotated[int, Meta(description="By the guards.")]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of `p2pfinetune reproduce --json`."""

    setting: str
    mix: str
    model: str
    seeds: list[int]
    tokens_per_peer: Annotated[dict[str, Spread], Meta(description="By split.")]
    schemes: list[SchemeSummary]
    missing: Annotated[
        list[str], Meta(description="Runs that are not complete, as seed-K/SCHEME; nothing of them is counted.")
    ]


@dataclass(frozen=True, slots=True)
class _Baselines:
    """What schemes are compared with, by seed."""

    local: Mapping[int, Mapping[PeerId, float]]
    oracle: Mapping[int, float]
    documents: Mapping[int, Mapping[PeerId, DocumentLosses]]
    """Of local."""


def summarise(sweep: Sweep, expected: Iterable[tuple[int, str]] = ()) -> Summary:
    """All complete runs; those of `expected` that have not even begun are missing, too."""
    complete = {key: run for key, run in sweep.runs.items() if run.result is not None and not _lost(run.result)}
    names = sorted({scheme for _, scheme in complete}, key=rank)
    baselines = _Baselines(
        local={seed: alone for seed in _seeds(complete) if (alone := _alone(complete, seed)) is not None},
        oracle={seed: _nats(run) for (seed, scheme), run in complete.items() if scheme == ORACLE},
        documents={seed: _of_best(run) for (seed, scheme), run in complete.items() if scheme == LOCAL},
    )
    schemes = [
        _summary_of(name, {seed: run for (seed, scheme), run in complete.items() if scheme == name}, baselines)
        for name in names
    ]
    missing = {f"seed-{seed}/{scheme}" for seed, scheme in {*sweep.runs, *expected} - complete.keys()}
    return Summary(
        setting=sweep.setting,
        mix=sweep.mix,
        model=sweep.model,
        seeds=_seeds(complete),
        tokens_per_peer=tokens_per_peer(sweep.runs.values()),
        schemes=schemes,
        missing=sorted(missing | set(sweep.unreadable)),
    )


def rank(scheme: str) -> tuple[int, str]:
    """Sorts schemes."""
    return (ORDER.index(scheme) if scheme in ORDER else len(ORDER), scheme)


def tokens_per_peer(runs: Iterable[Run]) -> dict[str, Spread]:
    """By split, over the peers of all runs."""
    shapes = [shape for run in runs for shape in run.population.peers.values()]
    found = {}
    for split in dict.fromkeys(split for shape in shapes for split in shape.tokens):
        counts = [shape.tokens[split] for shape in shapes if split in shape.tokens]
        found[split] = Spread(min=min(counts), mean=fmean(counts), max=max(counts))
    return found


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, JASA 22, 1927); never outside [0, 1], and honest if nothing was hit."""
    if of == 0:
        return (0.0, 1.0)
    share, z2 = hits / of, WILSON_Z**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = WILSON_Z / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of**2))
    return (0.0 if hits == 0 else middle - half, 1.0 if hits == of else middle + half)


def gap_closed(
    local: Mapping[int, float], scheme: Mapping[int, float], oracle: Mapping[int, float]
) -> tuple[tuple[float, ...], str | None]:
    """(local - scheme) / (local - oracle) of perplexities by seed, or nothing and why: then the ratio is noise."""
    paired = sorted(local.keys() & oracle.keys())
    if not paired:
        return (), "no seed with both local and theoretical"
    gains = {seed: local[seed] - oracle[seed] for seed in paired}
    if fmean(gains.values()) <= 0:
        return (), "theoretical weights gain nothing over local"
    if len(paired) < 2:
        return (), "one seed: whether the gain of theoretical weights is noise cannot be told"
    if fmean(gains.values()) <= NOISE * stdev(gains.values()) / math.sqrt(len(paired)) or min(gains.values()) <= 0:
        return (), "the gain of theoretical weights is within noise"
    ratios = tuple((local[seed] - scheme[seed]) / gains[seed] for seed in paired if seed in scheme)
    return (ratios, None) if ratios else ((), "no seed of this scheme has both local and theoretical")


def better_and_worse(pairs: Iterable[tuple[float, float]]) -> tuple[int, int]:
    """How many (loss of local, loss of the scheme) differ by more than the threshold in perplexity, either way."""
    changes = [as_change(scheme - local) for local, scheme in pairs]
    return sum(c < -THRESHOLD for c in changes), sum(c > THRESHOLD for c in changes)


def own_category_trust(run: Run) -> tuple[float | None, float | None]:
    """What the runs' rows give to text like the own, and what equal weights would; None if nobody else is heard.

    For peers that hold one category each this is the share of the weight for others that goes to the same category.
    """
    shares = {peer: shape.shares for peer, shape in run.population.peers.items() if shape.shares}
    given, chance = [], []
    for line in run.lines:
        others = {p: w for p, w in (line.row or {}).items() if p != line.peer and p in shares}
        if line.peer in shares and (total := sum(others.values())) > 0:
            alike = {p: sum(a * b for a, b in zip(shares[line.peer], shares[p], strict=True)) for p in others}
            given.append(sum(w * alike[p] for p, w in others.items()) / total)
            chance.append(fmean(alike.values()))
    return (fmean(given), fmean(chance)) if given else (None, None)


def _summary_of(name: str, runs: Mapping[int, Run], baselines: _Baselines) -> SchemeSummary:
    """One scheme."""
    nats = {seed: _nats(run) for seed, run in runs.items()}
    perplexities = {seed: perplexity(loss) for seed, loss in nats.items()}
    local, compared = baselines.local, sorted(runs.keys() & baselines.local.keys())
    local_nats = {seed: fmean(losses.values()) for seed, losses in local.items()}
    gains = [local_nats[seed] - nats[seed] for seed in compared]
    closed, absent = gap_closed(_exp(local_nats), perplexities, _exp(baselines.oracle))
    pairs = [(local[s][p], _best(runs[s])[p]) for s in compared for p in local[s].keys() & _best(runs[s]).keys()]
    better, worse = better_and_worse(pairs)
    clear, unclear, of = clearly(
        (documents, alone) for s in compared for documents, alone in _documents(runs[s], baselines.documents.get(s, {}))
    )
    peaks = [found for run in runs.values() if (found := _done(run).peak_bytes) is not None]
    trust = [pair for pair in map(own_category_trust, runs.values()) if pair[0] is not None]
    merges = [line for run in runs.values() for line in run.lines if line.is_merge]
    last = [_last(run) for run in runs.values()]
    return SchemeSummary(
        name=name,
        seeds=sorted(runs),
        perplexity_mean=fmean(perplexities.values()),
        perplexity_std=_std(list(perplexities.values())),
        last_perplexity_mean=_mean([perplexity(loss) for loss in last if loss is not None]),
        worst_tenth_perplexity=perplexity(worst_tenth([loss for run in runs.values() for loss in _best(run).values()])),
        nats_mean=fmean(nats.values()),
        nats_std=_std(list(nats.values())),
        gain_nats_mean=_mean(gains),
        gain_nats_std=_std(gains),
        gap_closed=_mean(closed),
        gap_closed_std=_std(closed),
        gap_closed_absent=absent,
        better_than_local=better / len(pairs) if pairs else None,
        worse_than_local=worse / len(pairs) if pairs else None,
        worse_than_local_interval=wilson(worse, len(pairs)) if pairs else None,
        worst_tenth_change=as_change(worst_tenth([scheme - alone for alone, scheme in pairs])) if pairs else None,
        pairs=len(pairs),
        clearly_better=clear / of if of else None,
        clearly_worse=unclear / of if of else None,
        bytes=fmean(_done(run).bytes for run in runs.values()),
        seconds=fmean(_done(run).seconds for run in runs.values()),
        peak_bytes=_mean(peaks),
        own_category_trust=_mean([own for own, _ in trust if own is not None]),
        own_category_by_chance=_mean([chance for _, chance in trust if chance is not None]),
        merges=len(merges),
        merges_refused=sum(not line.accepted for line in merges),
    )


def _alone(complete: Mapping[tuple[int, str], Run], seed: int) -> dict[PeerId, float] | None:
    """Losses of training alone: the local run, or if there is none the twins of any other."""
    if (seed, LOCAL) in complete:
        return _best(complete[seed, LOCAL])
    for (other, _), run in complete.items():
        twins = {peer: found.loss.local_best for peer, found in _done(run).peers.items()}
        if other == seed and all(loss is not None for loss in twins.values()):
            return {peer: loss for peer, loss in twins.items() if loss is not None}
    return None


def _of_best(run: Run) -> dict[PeerId, DocumentLosses]:
    """Of the documents of those peers whose runs say them."""
    return {peer: found.documents["best"] for peer, found in _done(run).peers.items() if "best" in found.documents}


def _documents(run: Run, local: Mapping[PeerId, DocumentLosses]) -> Iterator[tuple[DocumentLosses, DocumentLosses]]:
    found = _of_best(run)
    yield from ((found[peer], local[peer]) for peer in found.keys() & local.keys())


def _done(run: Run) -> RunResult:
    assert run.result is not None
    return run.result


def _best(run: Run) -> dict[PeerId, float]:
    return {peer: _guarded(found.loss) for peer, found in _done(run).peers.items()}


def _guarded(loss: SplitLosses) -> float:
    assert loss.best is not None  # a run without is lost
    return loss.best


def _nats(run: Run) -> float:
    return fmean(_best(run).values())


def _last(run: Run) -> float | None:
    losses = [found.loss.personal for found in _done(run).peers.values()]
    known = [loss for loss in losses if loss is not None]
    return fmean(known) if len(known) == len(losses) else None


def _lost(result: RunResult) -> bool:
    """Whether a peer's model has diverged: such a run has no mean."""
    losses = [found.loss.best for found in result.peers.values()]
    return not losses or any(loss is None or has_diverged(loss) for loss in losses)


def _exp(nats: Mapping[int, float]) -> dict[int, float]:
    return {seed: perplexity(loss) for seed, loss in nats.items()}


def _seeds(runs: Iterable[tuple[int, str]]) -> list[int]:
    return sorted({seed for seed, _ in runs})


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _std(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
