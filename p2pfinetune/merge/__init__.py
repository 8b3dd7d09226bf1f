"""Merge rules: one file each.

A rule makes one adapter of a trust row and the adapters that the row weighs. It believes the row and judges nothing:
whether the outcome is kept, `round.judging` decides on text that the row has not seen, so a rule may be wrong.

Two families. `factor_mean`, `core_svd` and `norm_clipping` are means: what a peer sends counts by its weight. The
others bound what a minority can do whatever it sends; the price is an assumption that honest peers lie near one
another. Peers with different kinds of text do not, and then such a rule cuts off honest ones (Karimireddy, He and Jaggi
2022, arXiv 2006.09365). Hence the default is a mean, and trust, the bound on a single neighbour and the guard are the
defence.

The literature counts peers; here each counts by its weight in the row, as if it stood there that many times. "More than
half of the peers are honest" thus reads "they hold more than half of the weight". Krum alone counts heads.

What holds of every rule: peers in the order of their names and sums in fp64, so that the order of arrival changes no
bit; adapters on the CPU in fp32, in and out.

Shapes, by suffix and in the order of the axes:

    n   peers of positive weight, sorted by name
    p   entries of an adapter, in the order of `FactorSet.vector`: all factors one behind the other
    A   (rank, in) and B (out, rank) of one target; stacked over peers, A is (n rank, in) and B is (out, n rank)
"""

from p2pfinetune.merge._base import MergeRule
from p2pfinetune.merge._products import product_error
from p2pfinetune.merge._vectors import adapter_of
from p2pfinetune.registry import Registry

RULES: Registry[MergeRule] = Registry("p2pfinetune.merge", MergeRule, "merge rule")  # type: ignore[type-abstract]

__all__ = ["RULES", "MergeRule", "adapter_of", "product_error"]
