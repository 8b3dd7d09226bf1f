"""How a daemon hears of peers: one file, one method. mDNS is not among them; it comes from the transport as `Found`."""

from p2pfinetune.registry import Registry
from peerd.discovery._base import DiscoveryContext, DiscoveryMethod, Tell, discover

METHODS: Registry[DiscoveryMethod] = Registry("peerd.discovery", DiscoveryMethod, "discovery method")  # type: ignore[type-abstract]  # the base is what plug-ins share

__all__ = ["METHODS", "DiscoveryContext", "DiscoveryMethod", "Tell", "discover"]
