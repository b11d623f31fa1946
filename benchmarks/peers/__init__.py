"""One module a peer: how its users would wait for a key in one process and fire it in another.

Each is run as two processes by ``compare.py`` and does the same work: ``wait_many`` arms a waiter for each key, with a
handler of its own, and ``fire_many`` fires the keys as fast as the peer's documentation advises; ``wait_one`` and
``fire_one`` do it one key at a time.
"""
