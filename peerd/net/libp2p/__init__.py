"""The real network: py-libp2p over TCP, Noise and yamux in a trio thread of its own. The only place with trio in it."""
