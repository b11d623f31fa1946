"""Whole nodes on a clock and a server in memory, run from a seed through faults, and held to every promise.

- `clock`: virtual time; a node's share of it can be frozen or ended;
- `history`: everything that was observed, in one order;
- `servers`: the server in memory, with books of what it really holds;
- `world`: nodes, servers and networks, and the verbs that a step may use (`users`, `faults`);
- `schedule`: steps from a seed, their play, and the shortest schedule that still breaks a promise;
- `checkers`: one function a promise;
- `variants`: coord broken on purpose, a promise each, to see that the checkers notice.
"""
