"""Whole nodes on a clock and a server in memory, run from a seed through faults, and held to every promise.

- `clock`: virtual time; a node's share of it can be frozen or ended;
- `history`: everything that was observed, in one order;
- `books`: what servers really hold; `servers`: the server in memory, which keeps them;
- `world`, `node`: nodes and servers, and the verbs that a step may use (`users`, `faults`); `single`, `single_faults`:
  those of one server; `sharded`, `sharded_faults`, `moving`: those of a cluster of two shards, whose slots move;
- `steps`, `stories`, `schedule`: steps from a seed, their play, and the shortest schedule that still breaks a promise;
- `run`: one play, and the look around when everything has come to rest; `aging`, `holders`: what is left long after;
  `locks`, `acks`: those who want locks, and those who acknowledge;
- `checkers` (`to_waiters`, `to_callers`, `to_ends`, `to_holders`, `to_locks`, `to_counters`, `to_ackers`,
  `to_watchers`, `to_shards`): one function a promise, on the `evidence`;
- `hunt`: many seeds on two processes;
- `variants` (`broken_waits`, `broken_calls`, `broken_watches`, `broken_links`, `broken_data`, `broken_ends`,
  `broken_holds`, `broken_counts`, `broken_locks`, `broken_acks`, `broken_shards`): coord broken on purpose, for the
  checkers to notice.
"""
