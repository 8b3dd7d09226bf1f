"""`peerd demo`: a whole network on this machine, one bootstrap node and some real daemons over real libp2p."""

from peerd.demo.plan import DemoOptions
from peerd.demo.run import run

__all__ = ["DemoOptions", "run"]
