"""The network behind one narrow port (`transport.py`): `libp2p`; its verified fake is in `peerd.testing.network`."""
