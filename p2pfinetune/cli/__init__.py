"""The command `p2pfinetune`: simulations of many peers, and the paper's comparison, on this machine or a cluster."""

from p2pfinetune.cli.entry import main

__all__ = ["main"]
