"""The decisions of a peer, without any input or output: see `node.step`."""
