"""Networks behind one narrow port (`transport.py`): `memory`, the verified fake, and `libp2p`, the real one."""
