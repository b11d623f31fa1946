"""Sentinel: a primary, a replica and three sentinels, as processes, and what a failover does to nodes."""
