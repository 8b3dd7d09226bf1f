"""Hostile peers, each an async function of a target and a time, that do what they can to use a node up.

    python -m tests.attackers NAME MULTIADDR --seconds N [--network DIGEST] [--source ADDRESS]

They share no guard with the program: what they speak is py-libp2p as it comes. Each goes on until its time is over,
whatever the other side does, and tells what it managed, counted. They attack what they are pointed at and nothing else.
"""

ON_PEERS = (  # names of those that a peer has to bear; others are meant for a rendezvous node
    "slow-loris",
    "slow-streams",
    "slow-reader",
    "connection-flood",
    "identity-flood",
    "stream-flood",
    "frame-flood",
    "window-flood",
    "huge-prefix",
    "announcement-flood",
    "announcement-flood-of-one",
    "control-flood",
)
