"""Many peers in one process, without a network: the daemon's own learning code under a simulated timetable."""
