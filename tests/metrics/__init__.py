"""Metrics: what they say, and what they cost."""
