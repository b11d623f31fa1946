"""The layer of the two connections.

- `urls`, `hosts`: what address the user means;
- `discovery`, `sentinel`, `sentinel_subscriber`: where that server is now;
- `tls`, `named_host`: how to reach it; `local`: the password of this user's own `coord server`;
- `backoff`: how long to wait before the next attempt;
- `scripts`: the Lua that runs on the server;
- `replies`: what the server's errors mean to a caller;
- `protocol`: the two protocols, on txredisapi's (the only module that imports it, and so installs a reactor);
- `connections`: opens both connections, proves that they are on one server, and keeps proving it (the heartbeat);
- `replication`, `replicas`: what data the server has, and how many replicas have it too;
- `link`: keeps the connections up, and notifies the session;
- `forks`: what a child process must not inherit.
"""
