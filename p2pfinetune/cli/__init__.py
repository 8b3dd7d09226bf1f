"""The command `p2pfinetune`: simulations of many peers, and the paper's comparison, on this machine or a cluster.

A shell around the library and nothing else: a command reads what was typed into a config, calls one function, and shows
what came back, in words for people and as one JSON document with --json. Progress goes to standard error, results to
standard output, so that either can be piped. An error of ours is a message, a hint and an exit code (`entry`), and
never a traceback.
"""

from p2pfinetune.cli.entry import main

__all__ = ["main"]
