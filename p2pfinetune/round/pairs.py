"""Two peers at the middle of their adapters: what each is asked for, and how much of it travels.

A pair that meets (`trust.cobo`) compares the gradients of both losses at one point, the middle of what both have
announced. So the point is known to both without a word, from two updates that both hold, and each gradient is taken by
its owner, on its own trust split. What a device does not share is no part of it: such a factor is the owner's own.

    update of i + update of j --between--> adapter at my place --gradient, my trust split--> shared --sketch--> numbers

A gradient has as many numbers as an adapter, and tells more of the text. All that is wanted is an inner product, so a
count sketch travels (Charikar, Chen, Farach-Colton 2002; as a random projection: Weinberger et al. 2009): every entry
is added with a random sign to one of m numbers. For sketches s, t of g, h by the same draws

    E <s, t> = <g, h>        standard deviation <= sqrt((|g|^2 |h|^2 + <g, h>^2) / m)

which is at most 2.3 % of |g| |h| at m = 4096, and less for what is far from parallel. The draws are a function of the
entry's number and of the two updates' digests (a counter-based generator: the finaliser of splitmix64, Steele, Lea,
Flood 2014), equal on every processor. So the same middle always gives the same sketch, and asking again tells nothing
more; with another update they are others, which is why a peer gets one a minute at most (`peerd.core.middles`).

Shapes: p entries of what is shared, m numbers of a sketch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from p2pfinetune.batched.gradient import gradients_of
from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.model.adapter import FactorSet
from p2pfinetune.names import Digest
from p2pfinetune.options import AdapterSpec
from p2pfinetune.round.update import LoraUpdate
from p2pfinetune.scoring.evaluate import Measure
from p2pfinetune.training.batches import derived_seed
from p2pfinetune.training.trainer import Trainer
from p2pfinetune.trust import Pairing, TrustScheme

Numbers = NDArray[np.float32]
SKETCH = 4096  # numbers, 16 KiB; a power of two
STEP = np.uint64(0x9E3779B97F4A7C15)  # of splitmix64: the golden ratio's odd part
MIXERS = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
LAST_SHIFT = np.uint64(31)


def between(one: LoraUpdate, other: LoraUpdate) -> LoraUpdate:
    """The middle of two updates; the same whichever comes first."""
    theirs = other.delta.tensors
    return LoraUpdate(FactorSet({name: (t + theirs[name]) * 0.5 for name, t in one.delta.tensors.items()}))


class Middle:
    """My side of every pair."""

    def __init__(
        self, scheme: TrustScheme, stack: AdapterStack, trainer: Trainer, measure: Callable[[], Measure]
    ) -> None:
        """`trainer`: of my adapter, of which I take what is not shared; `measure`: of the trust split as it is now."""
        self._scheme, self._stack, self._trainer, self._measure = scheme, stack, trainer, measure

    @property
    def pairing(self) -> Pairing | None:
        """What the trust scheme asks of neighbours; None: nothing, and then nothing is answered either."""
        return self._scheme.pairing

    def slopes(self, pairs: Sequence[tuple[LoraUpdate, LoraUpdate]]) -> list[FactorSet]:
        """Gradients of my loss on the trust split at the middle of each two updates, of what peers share."""
        adapted, mine = self._stack.adapted, self._trainer.adapter
        middles = [between(*pair).adapter(adapted.initial, mine) for pair in pairs]
        is_noisy = self.pairing is not None and self.pairing.is_noisy
        noise = derived_seed("middle", self._trainer.steps) if is_noisy else None
        found = gradients_of(self._stack, middles, self._measure(), noise=noise)
        return [shared_of(slope, adapted.spec) for slope in found]

    def agreement(self, mine: Numbers, theirs: Numbers) -> float:
        """What two gradients, or their sketches, say to the trust scheme."""
        return self._scheme.agreement(product(mine, theirs), length(mine), length(theirs))


def shared_of(slope: FactorSet, spec: AdapterSpec) -> FactorSet:
    """What of a gradient is about factors that leave the device; zeros for components that this device lacks."""
    return FactorSet({name: _grown(spec.rank, name, t) for name, t in slope.tensors.items() if spec.shares(name)})


def _grown(rank: int, name: str, tensor: torch.Tensor) -> torch.Tensor:
    rows, columns = tensor.shape
    return pad(tensor, (0, 0, 0, rank - rows) if name.endswith(".lora_A") else (0, rank - columns))


def draw_of(one: Digest, other: Digest) -> int:
    """64 bits that two blobs have in common, whichever comes first."""
    named = "peerd middle " + " ".join(sorted((one, other)))
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:8], "big")


def sketch(slope: FactorSet, draw: int) -> Numbers:
    """(m,) numbers by the draws that both peers know; added up in fp64 and in the order of the entries."""
    vector_p = slope.vector().double().numpy()
    bits_p = _bits(draw, len(vector_p))
    places_p = (bits_p >> np.uint64(64 - int(math.log2(SKETCH)))).astype(np.int64)
    signs_p = 1.0 - 2.0 * (bits_p & np.uint64(1)).astype(np.float64)
    return np.bincount(places_p, weights=signs_p * vector_p, minlength=SKETCH).astype(np.float32)


def _bits(draw: int, count: int) -> NDArray[np.uint64]:
    """64 random bits for each number from 0: splitmix64 at that place of its sequence."""
    state = np.arange(1, count + 1, dtype=np.uint64) * STEP + np.array([draw], dtype=np.uint64)
    for shift, factor in MIXERS:
        state = (state ^ (state >> shift)) * factor
    mixed: NDArray[np.uint64] = state ^ (state >> LAST_SHIFT)
    return mixed


def product(one: Numbers, other: Numbers) -> float:
    """Their inner product, in fp64."""
    return float(one.astype(np.float64) @ other.astype(np.float64))


def length(one: Numbers) -> float:
    """Of a sketch, or of a vector."""
    return math.sqrt(product(one, one))
