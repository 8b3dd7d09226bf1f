"""The one back end of the port that speaks to other machines, over py-libp2p in a thread of its own (ADR 0003).

    asyncio, the daemon's loop                trio, a thread
    transport.py   the port                   node.py    one host and all that runs on it
        |                                        |
        +------ bridge.py: calls both ways ------+-- gossip.py, blobs.py, asking.py, echo.py, mdns.py   what peers do
                limits.py: queues and counts     +-- dialling.py, host.py, interfaces.py                 reaching them
                                                 +-- guard.py, patches.py, muxer.py, alive.py, turns.py  bearing them

Of libp2p's stack it uses TCP, an optional pre-shared key (pnet), multistream-select, Noise with Ed25519 identities,
yamux and gossipsub. Left out on purpose: plaintext, identify, automatic dialling, peer exchange and the DHT, because
each of them lets a stranger choose what is kept here or whom this machine calls.

Only modules of this folder (and the rendezvous node) may import trio or libp2p.
"""
