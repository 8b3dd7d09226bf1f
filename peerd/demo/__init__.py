"""`peerd demo`: a whole network on this machine, one bootstrap node and some real daemons over real libp2p."""
