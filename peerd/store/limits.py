"""How much of what strangers cause is kept on disk. Nothing here is for users to set."""

from __future__ import annotations

MAX_ROUNDS = 10_000  # months of rounds, about 300 bytes each
MAX_BANS = 512  # as many offenders as the core keeps in mind
MAX_PEERS = 128  # good peers remembered; some times a neighbourhood
MAX_SEEN = 1024  # newest sequence numbers; as many as the core keeps
MAX_REFUSED_PEERS = 512
MAX_REASONS = 32  # refusal words of one peer; beyond, "other"
MAX_REASON = 40  # characters of a refusal word
SEQUENCE_BLOCK = 64  # one fsync for so many announcements; at most so many numbers are skipped by a crash
RESUME_SECONDS = 3600.0  # after which nobody announces that blob any more: its interrupted transfer is of no use
MAX_PARTIALS = 64  # interrupted transfers kept; the oldest give way
MAX_PARTIAL_BYTES = 4 * 2**30  # of them all: eight updates at once of a 70B model at rank 8 in bf16 are three quarters
MAX_DAMAGED = 4  # damaged blobs kept for whoever wants to look into them; the oldest are swept away at a start
MAX_BACKUPS = 3  # damaged databases kept likewise: the first ones, and the last
