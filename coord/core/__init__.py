"""The layer without I/O: no network, no clock, no Twisted.

Events go in as method calls, commands come out as data. Every decision about a key is made here:

- `names` and `values`: which names, keys and values are allowed;
- `records`: the latest change of a key, and its format in Redis;
- `entries`: the parts of the table of keys;
- `keys`: the table of keys - which are waited for, subscribed, read, armed, cached;
- `calls`: the numbered calls of a node on one map, and their outcomes;
- `slots`: where a map is in a cluster, and what a server's refusal says about that;
- `history`: the position of a watch, and whether the next line continues it.
"""
