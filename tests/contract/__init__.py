"""The contract: a test or more for each promise of docs/semantics.md, on every kind of server."""
