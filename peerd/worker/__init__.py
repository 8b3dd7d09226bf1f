"""The child process that owns torch, and the daemon's side of it."""
