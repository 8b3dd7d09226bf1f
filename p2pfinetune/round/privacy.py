"""Differentially private publishing: an update clipped, hidden in Gaussian noise, and what all such updates betray.

The unit is the whole text of one peer: a neighbouring data set is any other text at all. Clipped to norm C, two updates
lie at most 2C apart, so that is the sensitivity, whatever training did, however many rounds came before and whatever
others sent; each publication is a Gaussian mechanism given those before it, and an accountant composes them.

So it is the Gaussian mechanism on what is published (Dwork and Roth 2014), and not DP-SGD on what is trained (Abadi et
al. 2016, arXiv 1607.00133): no gradient of a single text is clipped, and none could be, since the unit is all of them.
The price is that noise is added to a vector of as many entries as an adapter has, so that its norm is the standard
deviation times the root of that number; docs/adr/0011 has the trade-off. Composition is by Rényi divergence (Mironov
2017, arXiv 1702.07476; opacus' RDP accountant): exact for Gaussians up to the last step to an epsilon, and for
publications that follow from each other.

Units: `clip` in the norm of a delta, `noise` in sensitivities (a noise of 1 is a standard deviation of 2 clip in every
entry), epsilon in nats of the worst likelihood ratio, delta a probability.

Noise is drawn from the system's cryptographic generator, never from a seed of training, which others may know or guess
and then subtract it. Four draws are added up and halved, which keeps the distribution and makes it infeasible to find
the draws behind a value (Holohan and Braghin 2021, arXiv 2107.10138; opacus' secure mode does the same). Sums of
floating-point numbers are still not sums of real ones: what Mironov (CCS 2012) showed for Laplace noise is made harder
by this and by a codec's rounding, and not proved impossible.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from p2pfinetune.errors import OptionError
from p2pfinetune.model.adapter import FactorSet

RandomBytes = Callable[[int], bytes]

DRAWS = 4  # added up for one number of noise
BELOW_ONE = 1.0 - 2.0**-40  # so that rounding never leaves a clipped update above its bound
ORDERS = tuple(1.0 + 10.0 ** (k / 20) for k in range(-110, 81))
"""Rényi orders that the accountant tries: near 1 for spends beyond all meaning, large for tiny ones."""


def privatised(
    delta: FactorSet, clip: float, noise: float, random_bytes: RandomBytes = secrets.token_bytes
) -> FactorSet:
    """The update clipped to norm `clip`, plus Gaussian noise of standard deviation 2 * clip * noise in every entry.

    `noise` is in units of the sensitivity, as accountants count it.
    """
    if not (clip > 0.0 and noise > 0.0 and math.isfinite(clip) and math.isfinite(noise)):
        raise OptionError("clip and noise of private publishing are positive", "for example clip 1 and noise 2")
    kept = clipped(delta, clip)
    scale = 2.0 * clip * noise
    return FactorSet({name: (x + scale * _normal(x, random_bytes)).float() for name, x in kept.items()})


def clipped(delta: FactorSet, clip: float) -> dict[str, Tensor]:
    """In double precision, shortened to norm `clip` if it is longer; what is not finite becomes all zeros."""
    norm = delta.norm()
    factor = min(1.0, clip / norm * BELOW_ONE) if norm > 0.0 else 1.0
    if not math.isfinite(norm):  # no norm bounds it, and to refuse would tell something of the text
        return {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in delta.tensors.items()}
    return {name: tensor.double() * factor for name, tensor in delta.tensors.items()}


def epsilon(spent: Iterable[tuple[float, int]], delta: float) -> float:
    """What all publications betray at this delta; `spent` are pairs of noise and number of publications."""
    from opacus.accountants import RDPAccountant  # seconds to load, and few need it

    history = [(noise, 1.0, publications) for noise, publications in spent if publications]
    if not history:
        return 0.0
    accountant = RDPAccountant()
    accountant.load_state_dict({"history": history, "mechanism": RDPAccountant.mechanism()})
    return float(accountant.get_epsilon(delta, alphas=list(ORDERS)))


def _normal(like: Tensor, random_bytes: RandomBytes) -> Tensor:
    """Standard Gaussian numbers in the shape of a tensor."""
    total = torch.zeros(like.numel(), dtype=torch.float64)
    for _ in range(DRAWS):
        total += _box_muller(like.numel(), random_bytes)
    return (total / math.sqrt(DRAWS)).reshape(like.shape)


def _box_muller(count: int, random_bytes: RandomBytes) -> Tensor:
    """Pairs of uniform numbers of 53 bits become pairs of Gaussian ones (Box and Muller 1958); uniform is in (0, 1]."""
    pairs = (count + 1) // 2
    words = torch.frombuffer(bytearray(random_bytes(16 * pairs)), dtype=torch.int64)
    uniform = ((words >> 11) & (2**53 - 1)).double().add_(1.0).mul_(2.0**-53).reshape(2, pairs)  # (0, 1]
    radius, angle = (-2.0 * uniform[0].log()).sqrt(), 2.0 * math.pi * uniform[1]
    return torch.cat([radius * angle.cos(), radius * angle.sin()])[:count]
