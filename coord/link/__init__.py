"""The layer of the connections to a server.

- `urls`, `hosts`: parsing of server addresses;
- `passwords`: what to log in with, now;
- `discovery`, `sentinel`, `sentinel_subscriber`: where that server is now;
- `tls`, `named_host`: how to reach it; `local`: the password of this user's own `coord server`;
- `keep_up`: connects again and again; `backoff`: how long to wait before the next attempt;
- `scripts`: the Lua that runs on the server;
- `replies`: what the server's errors mean to a caller;
- `protocol`: the protocols, on txredisapi's;
- `txredis`: imports that, and keeps it from installing a reactor;
- `handshake`: logs in, and checks that the server is what the URL says;
- `connections`: opens the connections, proves that they are to one server, and repeats the proof (the heartbeat);
- `replication`, `replica_writer`: which data the server has, and how many replicas have it, too;
- `receiver`: what the session is told;
- `link`: keeps the connections up, and notifies the session;
- `forks`: what a child process must not inherit;
- `one_shot`: results that many callers wait for, here and above.
"""
