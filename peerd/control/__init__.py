"""How people and programs ask a running daemon: the interface on its socket, its answers, and how they are shown."""
