"""The rendezvous node: tells peers of one network about one another, and knows nothing of what they do together.

It is a directory with forgetful entries and nothing else: it sees digests of networks, peer ids and addresses; never an
update, a trust weight or a word of text. Peers that have met need it no more, and any number of nodes may serve one
network, so none is a single point of failure. It decides nothing about who is good: a wrong address costs a failed
dial.

The idea is libp2p's rendezvous protocol (specs/rendezvous), with one question in the place of register and discover:
nobody looks others up without being found, and a registration is refreshed by the very question that needs it.
"""
