"""Trust schemes: one file each."""

from p2pfinetune.registry import Registry
from p2pfinetune.trust._base import TrustContext, TrustScheme

SCHEMES: Registry[TrustScheme] = Registry("p2pfinetune.trust", TrustScheme, "trust scheme")  # type: ignore[type-abstract]

__all__ = ["SCHEMES", "TrustContext", "TrustScheme"]
