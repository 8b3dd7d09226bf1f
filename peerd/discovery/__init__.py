"""How a daemon hears of peers: one file, one method. mDNS is not among them; it comes from the transport as `Found`.

Each method runs for as long as the daemon, side by side with the others, behind its own guard: a rendezvous node that
is down keeps nobody from the peers that are remembered. There is no DHT: its routing tables are filled by whoever makes
the most ids, and peers of one network are few enough for a rendezvous node, or none at all.
"""

from p2pfinetune.registry import Registry
from peerd.discovery._base import DiscoveryContext, DiscoveryMethod, Tell, discover

METHODS: Registry[DiscoveryMethod] = Registry("peerd.discovery", DiscoveryMethod, "discovery method")  # type: ignore[type-abstract]  # the base is what plug-ins share

__all__ = ["METHODS", "DiscoveryContext", "DiscoveryMethod", "Tell", "discover"]
