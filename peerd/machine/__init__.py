"""What the daemon asks of the machine under it: paths, locks, logs, processes, and what runs short."""
