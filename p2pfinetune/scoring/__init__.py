"""Losses on text, and what may be said of the difference of two models."""
