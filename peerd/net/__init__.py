"""The network behind one narrow port (`transport.py`): `libp2p`; its verified fake is in `peerd.testing.network`.

The port is the seam at which the network could be another: nothing above it knows of streams, connections or trio, and
nothing below it knows of rounds, trust or models. What both back ends need (bounds, the plan of a fetch, the rules of
an exchange) lies in this folder and is pure or nearly so; what only libp2p needs lies in `libp2p/`.
"""
