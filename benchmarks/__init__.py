"""Reproducible measurements, each with its own runner. Not installed, and never timed tests."""
