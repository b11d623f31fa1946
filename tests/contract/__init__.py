"""The contract: a test or more for each promise of the design, on every kind of server."""
