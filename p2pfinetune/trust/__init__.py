"""Trust schemes: one file each."""

from p2pfinetune.errors import OptionError
from p2pfinetune.merge import RULES, MergeRule
from p2pfinetune.registry import Registry, public_name
from p2pfinetune.trust._base import NOTHING, Judgement, SchemeState, TrustContext, TrustScheme

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


__all__ = ["NOTHING", "SCHEMES", "Judgement", "SchemeState", "TrustContext", "TrustScheme", "must_go_together"]
