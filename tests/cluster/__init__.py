"""Redis Cluster and Valkey Cluster: real ones, those in memory, and coord on them."""
