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
- `map_link`: on a cluster, the link of one map, which goes from server to server;
- `shards`, `shard_connections`: the servers of a cluster, and the connections that many maps share;
- `topology`: who serves which slot of a cluster;
- `forks`: what a child process must not inherit;
- `one_shot`: results that many callers wait for, here and above.
"""
