"""The layer that drives the core: passes it what the link reports, and sends what it commands."""
