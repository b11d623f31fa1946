"""Whole nodes on a clock and a server in memory, run from a seed through faults, and held to every promise.

- `clock`: virtual time; a node's share of it can be frozen or ended;
- `history`: everything that was observed, in one order;
- `servers`: the server in memory, with books of what it really holds;
- `world`: nodes, servers and networks, and the verbs that a step may use (`users`, `faults`);
- `steps`, `stories`, `schedule`: steps from a seed, their play, and the shortest schedule that still breaks a promise;
- `run`: one play, and the look around when everything has come to rest; `aging`, `holders`: what is left long after;
- `checkers` (`to_waiters`, `to_callers`, `to_ends`, `to_holders`, `to_watchers`): one function a promise, on the
  `evidence`;
- `hunt`: many seeds on two processes;
- `variants` (`broken_waits`, `broken_calls`, `broken_watches`, `broken_links`, `broken_data`, `broken_ends`,
  `broken_holds`): coord
  broken on purpose, for the checkers to notice.
"""
