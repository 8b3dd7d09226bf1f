"""A link with faults: a TCP proxy that cuts, pauses, delays and throttles what passes, and counts it."""

from tests.linkfaults.proxy import Proxy

__all__ = ["Proxy"]
