"""For authors of plug-ins and tests: a network and a store in memory, and what must hold of any state."""
