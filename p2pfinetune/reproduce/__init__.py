"""The paper's comparison: its settings and schemes run as sweeps of simulations, and what came out of them."""
