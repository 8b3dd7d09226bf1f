"""Fuzzing of whole daemons over real libp2p on loopback: `python -m tests.fuzz daemons --minutes N --seed S`.

Some daemons with a worker that learns nothing, a bootstrap node, and a stranger who speaks nonsense at every stage of a
connection, from both of its ends, and says validly signed things at and beyond their bounds. Some daemons are restarted
on purpose; in some, functions of the network raise whatever they like. The others may lose nothing: no daemon, no
connection between two of them, no round.
"""
