"""The learning library: adapters, training, trust, merging. No sockets, no clock, no event loop."""
