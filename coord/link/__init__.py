"""The floor of the two connections.

- `urls`: what address the user means;
- `places`, `sentinel` (with `ears`), `tls`: where that server is now, and how to be sure of it;
- `backoff`: how long to wait before the next attempt;
- `scripts`: the Lua that runs on the server;
- `replies`: what the server's words mean to a caller;
- `connections`: the two protocols, on txredisapi's (the only module that imports it, and so installs a reactor);
- `pair`: opens both connections, proves that they are on one server, and keeps proving it (the heartbeat);
- `link`: keeps a pair up, and tells the session what happens.
"""
