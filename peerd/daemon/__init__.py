"""One daemon: the shell around the pure core, what performs its effects, and what has to survive."""
