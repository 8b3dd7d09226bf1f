"""Trust schemes: one file each.

A scheme answers one question of one peer: how much shall each neighbour's adapter weigh in my next merge? That is row i
of the trust matrix W of arXiv 2404.09753; here nobody ever holds the whole matrix. A scheme scores, in a unit of its
own, and `_base` makes the scores into a row by one softmax. Everything is measured by the one who trusts, on its own
text (`TrustContext`, docs/adr/0007), so nobody can lie about a loss or a prediction. The exception is `cobo`, which
asks neighbours, and believes them as little as it can.

    scheme                   the paper's     asks                                     costs, for n neighbours
    weight_similarity        strategy 1      does it point where mine points?         no forward pass
    validation               strategy 2      what does it lose on my trust split?     n + 1 runs over the split
    prediction_similarity    strategy 3      does it predict what mine predicts?      n + 1 runs over 16 contexts
    first_order              -               validation, linearised at my adapter     one backward pass
    layer_similarity         strategy 1      the first question, layer by layer       no forward pass
    smoothed_validation      strategy 2      the second, averaged over rounds         n + 1 runs over the split
    mixture                  -               which row gives the best merge?          a backward pass a step
    product_norm             -               how much does it do?                     no forward pass
    cobo                     -               does a step half-way help us both?       a backward pass a pair
    uniform, local, oracle   baselines       nothing                                  nothing

The paper's forms stand behind `faithful`; the defaults differ from them for a measured reason each, told beside the
option. Whatever is chosen on the trust split fits itself to it, so its losses are never reported as a result: the
guard split judges the merge and the test split is opened at the end.

Shapes, by suffix and in the order of the axes:

    p   positions at which predictions are compared; in `mixture`, all entries of an adapter
    v   entries of the vocabulary
    k   kept entries of a position; in `mixture`, parts of the trust split
    j   peers, me included, sorted by id
    r, s, i, o   ranks of two adapters, inputs and outputs of a layer: A is a_ri, B is b_or
"""

from p2pfinetune.errors import OptionError
from p2pfinetune.merge import RULES, MergeRule
from p2pfinetune.registry import Registry, public_name
from p2pfinetune.trust._base import NOTHING, Judgement, Pairing, SchemeState, TrustContext, TrustScheme

SCHEMES: Registry[TrustScheme] = Registry("p2pfinetune.trust", TrustScheme, "trust scheme")  # type: ignore[type-abstract]


def must_go_together(scheme: TrustScheme, rule: MergeRule) -> None:
    """Raises OptionError for a scheme that gives each layer a row, with a rule that looks at adapters as a whole."""
    if scheme.by_layer and not rule.by_layer:
        fit = ", ".join(name for name in RULES.names() if RULES.find(name).by_layer)
        raise OptionError(
            f"the trust scheme {public_name(scheme)!r} gives each layer a row of its own, and the merge rule "
            f"{public_name(rule)!r} looks at adapters as a whole",
            f"choose a merge rule that merges layer by layer: {fit}; or another trust scheme",
        )


__all__ = [
    "NOTHING", "SCHEMES", "Judgement", "Pairing", "SchemeState", "TrustContext", "TrustScheme", "must_go_together",
]  # fmt: skip
