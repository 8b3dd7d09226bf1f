"""Peers that mean harm, for the simulator."""
