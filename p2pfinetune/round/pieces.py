"""Pieces, and how a newcomer puts an adapter together of them by forward passes alone.

After Per-Pcs (Tan, Liu and Jiang, EMNLP 2024, arXiv 2406.10471, with the defaults of its public code). A *piece* is one
layer of a sharer's adapter: its factors A and B, and the gate g by which it is found (`training.gates`). Of the
newcomer's own text, its *history*, each layer is asked whose gate its inputs are most like:

    score_p = mean over the tokens t that are learnt of < LN(x_t), LN(g_p) > / sqrt(in)
    of the top k: w = softmax(score / T);   A = sum of w_p A_p,   B = sum of w_p B_p        (k = 1, T = 1)

with LN torch's layer norm without weights. Layers are asked in the order in which the model runs them, each with the
pieces that were chosen before at work below it, so an input is what it will be. That makes one forward pass: a hook
at each layer sees its inputs, scores, writes the chosen piece into the live layer and lets it run. The cost is
that pass, and for each layer and candidate one product of vectors; no loss is computed and nothing is trained.

What is ours and not the paper's: the mean is over all tokens of the history at once, so that scores are those of the
pieces that were chosen, however large a batch the paper's code would take; the history has a bound in tokens; a layer
without a finite score stays at the start. As options: the sum of the products BA in place of that of the factors
(`mix`), and the choice by measured loss (`choose`). For that the best of the scored assembly, the uniform mean and each
neighbour's whole adapter on the trust split is gone through layer by layer, and each takes the candidate's piece that
measures best, if that is better than what is there: (candidates x layers) measurements, and never worse there than the
best single neighbour.

What is assembled is a proposal, like a merge: the guard of the newcomer judges it against the start (`round.learner`).

Shapes: b rows, t tokens, i inputs of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, pad

from p2pfinetune.codec.bf16 import BFloat16
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.merge import MergeRule
from p2pfinetune.merge.core_svd import CoreSvd
from p2pfinetune.merge.factor_mean import FactorMean
from p2pfinetune.model.adapter import AdaptedModel, Adapter, write
from p2pfinetune.model.compute import measuring_precision
from p2pfinetune.names import PeerId, Refusal, TrustRow
from p2pfinetune.options.pieces import AssemblyOptions
from p2pfinetune.round.collaborate import layer_of
from p2pfinetune.scoring.evaluate import PADDING, measure_of
from p2pfinetune.training.gates import Gates, Schema

CODEC = BFloat16()  # of gates, whatever updates are written in: they are asked for once, and differ in direction
LARGEST_GATE = 1e4  # of an entry: far beyond what steps of 2e-5 reach in a life, and finite in any arithmetic here

Losses = Callable[[Sequence[Adapter]], list[float]]
"""Mean loss of each in nats a token, on one text."""


@dataclass(frozen=True, slots=True, eq=False)
class Sharer:
    """A neighbour whose adapter can be taken to pieces."""

    adapter: Adapter
    gates: Gates


@dataclass(frozen=True, slots=True, eq=False)
class Assembly:
    """An adapter made of pieces."""

    adapter: Adapter
    weights: Mapping[str, Mapping[PeerId, float]]
    """By the path of a layer: what each candidate's piece weighs there; of a layer that stayed at the start, nothing.

    The order is that in which the model ran the layers."""
    scores: Mapping[str, Mapping[PeerId, float]]
    """By layer: what each was scored."""
    candidates: int
    """Whose pieces there were to choose from."""

    def row(self, me: PeerId) -> TrustRow:
        """How much of the adapter is whose, as a part of its layers; what stayed at the start is mine."""
        shares: dict[PeerId, float] = {}
        for weights in self.weights.values():
            for peer, weight in weights.items():
                shares[peer] = shares.get(peer, 0.0) + weight / len(self.scores)
        return TrustRow({me: 1.0 - len(self.weights) / len(self.scores), **shares})


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Own text to find pieces by, in one batch."""

    inputs_bt: Tensor
    learnt_bt: Tensor
    """Whether what follows a token is learnt: the paper's label tokens."""


def history_of(split: TokenSplit, *, documents: int, context: int, vocabulary: int, max_tokens: int) -> History:
    """The last so many documents of a split in windows of `context`; of more than `max_tokens`, a fixed choice.

    Padded on the right, where a causal model never looks.
    """
    first = max(0, split.documents - documents)
    begin = int(split.starts[first])
    counted = None if split.counted is None else split.counted[begin:]
    last = TokenSplit(split.tokens[begin:], split.starts[first:] - begin, counted, split.front)
    batches = measure_of(last, context=context, vocabulary=vocabulary, max_tokens=max_tokens).batches
    longest = max(batch.inputs_bt.shape[1] for batch in batches)
    inputs = [pad(batch.inputs_bt, (0, longest - batch.inputs_bt.shape[1])) for batch in batches]
    targets = [pad(b.targets_bt, (0, longest - b.targets_bt.shape[1]), value=PADDING) for b in batches]
    return History(torch.cat(inputs), torch.cat(targets) != PADDING)


def assemble(
    adapted: AdaptedModel, sharers: Mapping[PeerId, Sharer], history: History, options: AssemblyOptions
) -> Assembly:
    """By scores, in one forward pass. Overwrites what is live. ValueError if there is nobody."""
    if not sharers:
        raise ValueError("an assembly needs somebody's pieces")
    write(adapted, adapted.initial)
    pass_ = _Pass(adapted, dict(sorted(sharers.items())), history, options)
    device = next(iter(adapted.parameters.values())).device
    with torch.no_grad(), measuring_precision(device, adapted.precision), pass_.hooked():
        adapted.model(input_ids=history.inputs_bt.to(device), use_cache=False)
    return pass_.found()


class _AllChosen(Exception):  # it is no error: what is above the last layer has nothing to say
    pass


class _Pass:
    """What happens at the layers of one forward pass."""

    def __init__(
        self, adapted: AdaptedModel, sharers: Mapping[PeerId, Sharer], history: History, options: AssemblyOptions
    ) -> None:
        self._adapted, self._sharers, self._history, self._options = adapted, sharers, history, options
        self._rule: MergeRule = CoreSvd() if options.mix == "products" else FactorMean()
        self._scores: dict[str, dict[PeerId, float]] = {}
        self._weights: dict[str, dict[PeerId, float]] = {}
        self._tensors: dict[str, Tensor] = dict(adapted.initial.tensors)

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Inside, the model chooses as it runs, and leaves off once all is chosen."""
        layers: dict[str, Any] = {path: self._adapted.model.get_submodule(path) for path in self._adapted.targets}
        hooks = [layer.register_forward_pre_hook(self._hook(path)) for path, layer in layers.items()]
        try:
            yield
        except _AllChosen:
            pass
        finally:
            for hook in hooks:
                hook.remove()

    def found(self) -> Assembly:
        return Assembly(Adapter(self._tensors), self._weights, self._scores, len(self._sharers))

    def _hook(self, path: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def hook(_: Any, inputs: tuple[Tensor, ...]) -> None:
            if path not in self._scores:  # a layer that runs twice is chosen by its first inputs
                self._choose(path, inputs[0])
                if len(self._scores) == len(self._adapted.targets):
                    raise _AllChosen

        return hook

    def _choose(self, path: str, x: Tensor) -> None:
        mean_i = mean_input(x, self._history.learnt_bt)
        scores = {peer: score(mean_i, sharer.gates.of(path)) for peer, sharer in self._sharers.items()}
        self._scores[path] = scores
        if not (weights := chosen(scores, self._options.top_k, self._options.temperature)):
            return
        self._weights[path] = weights
        pieces = {peer: layer_of(self._sharers[peer].adapter, path) for peer in weights}
        start = layer_of(self._adapted.initial, path)
        for name, tensor in self._rule.merge(TrustRow(weights), pieces, start).tensors.items():
            self._tensors[name] = tensor
            self._adapted.parameters[name].copy_(tensor)


def mean_input(x: Tensor, learnt_bt: Tensor) -> Tensor:
    """(i,) in fp64: the mean of LN(x_t) over the tokens that are learnt; over all rows where rows are not tokens."""
    inputs_ni = x.reshape(-1, x.shape[-1])
    if len(inputs_ni) == learnt_bt.numel():
        inputs_ni = inputs_ni[learnt_bt.to(x.device).reshape(-1)]
    normed_ni = layer_norm(inputs_ni.float(), inputs_ni.shape[-1:])
    return normed_ni.double().mean(dim=0).cpu()


def score(mean_i: Tensor, gate_i: Tensor) -> float:
    """How much like a gate the inputs are. The inner product is linear, so the mean of all is that of the mean."""
    normed_i = layer_norm(gate_i.double(), gate_i.shape)
    return float(mean_i @ normed_i) / math.sqrt(len(gate_i))


def chosen(scores: Mapping[PeerId, float], top_k: int, temperature: float) -> dict[PeerId, float]:
    """Weights of the best `top_k` that sum to one; of equal scores, the first by id. Empty if no score is finite."""
    finite = {peer: value for peer, value in scores.items() if math.isfinite(value)}
    best = sorted(finite, key=lambda peer: (-finite[peer], peer))[:top_k]
    if not best:
        return {}
    raised = np.exp([(finite[peer] - finite[best[0]]) / temperature for peer in best])
    return dict(zip(best, (raised / raised.sum()).tolist(), strict=True))


def refined(assembly: Assembly, sharers: Mapping[PeerId, Sharer], initial: Adapter, losses: Losses) -> Assembly:
    """By measured loss: never above the best of the assembly, the uniform mean and each adapter alone, nor the start.

    Of whole adapters the best is taken, then layer by layer, in the order of the model, a candidate's piece if it
    measures better. `losses` is asked once for the whole ones and once a layer.
    """
    peers = sorted(sharers)
    everybody = {peer: sharers[peer].adapter for peer in peers}
    uniform = {peer: 1.0 / len(peers) for peer in peers}
    mean = FactorMean().merge(TrustRow(uniform), everybody, initial)
    paths = list(assembly.scores)
    whole: list[tuple[Adapter, Mapping[str, Mapping[PeerId, float]]]] = [
        (assembly.adapter, assembly.weights),
        (initial, {}),
        (mean, dict.fromkeys(paths, uniform)),
        *((everybody[peer], {path: {peer: 1.0} for path in paths}) for peer in peers),
    ]
    measured = [_known(loss) for loss in losses([adapter for adapter, _ in whole])]
    place = min(range(len(whole)), key=measured.__getitem__)
    (adapter, weights), best = whole[place], measured[place]
    weights = dict(weights)
    for path in paths:
        tried = [Adapter({**adapter.tensors, **layer_of(everybody[peer], path).tensors}) for peer in peers]
        found = [_known(loss) for loss in losses(tried)]
        place = min(range(len(tried)), key=found.__getitem__)
        if found[place] < best:
            adapter, best, weights[path] = tried[place], found[place], {peers[place]: 1.0}
    return Assembly(adapter, {path: weights[path] for path in paths if path in weights}, assembly.scores, len(peers))


def _known(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf


def encode_gates(gates: Gates) -> bytes:
    """As a newcomer is given them; the same gates always give the same bytes."""
    return CODEC.encode({name: tensor.unsqueeze(0) for name, tensor in gates.tensors.items()})


def inspect_gates(blob: bytes, schema: Schema) -> Gates | Refusal:
    """Size, container, names, shapes, finite, size of entries. Never raises because of what is in the blob."""
    if len(blob) > CODEC.max_bytes(schema):
        return Refusal("oversize", f"{len(blob)} bytes, at most {CODEC.max_bytes(schema)}")
    tensors = CODEC.decode(blob, schema)
    if isinstance(tensors, Refusal):
        return tensors
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            return Refusal("not-finite", name)
        if float(tensor.abs().max()) > LARGEST_GATE:
            return Refusal("norm", f"{name} has an entry of {float(tensor.abs().max()):.3g}, at most {LARGEST_GATE:g}")
    return Gates({name: tensor[0] for name, tensor in tensors.items()})
