"""The server of `coord.testing` as coord's own tests need it: nearly all of Redis 7.0, exact to the byte.

- `commands`: users, roles, replicas that are late, commands that wait, and where fakeredis differs;
- `lua`, `scripts`: scripts as Redis's `script_lua.c` runs them, compiled once a process;
- `access`: users and what they may do; `troubles`: what a server refuses for a while;
- `connection`, `replication`, `server`: the server's end of a connection, its place among others, and the whole.
"""

from memory.cluster import Cluster
from memory.server import MemoryServer, Snapshot

__all__ = ["Cluster", "MemoryServer", "Snapshot"]
