"""Peers that mean harm, for the simulator.

What a defence is worth is measured against attackers that know it: those here see every honest update of a wave before
they speak, and no secret but the private text is kept from them. The rules that they try out are in `merge`, `trust`
and `round`; what came of it is in docs/threat-model.md and docs/LOG.md.

Shapes: n honest peers of a wave, sorted by name; p entries of a delta.
"""
