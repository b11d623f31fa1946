"""The layer without I/O: no network, no clock, no Twisted.

Events go in as method calls, commands come out as data. Every decision about a key is made here:

- `names` and `values`: what may be asked for at all;
- `records`: the current state of a key, and how it is written in Redis;
- `entries`: what the table of keys is made of;
- `keys`: the table of keys - who waits, what is subscribed, read, armed, cached;
- `calls`: the numbered calls of a node on one map, and what becomes of each;
- `history`: where a watch stands and whether the next line follows.
"""
