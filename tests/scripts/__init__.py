"""The Lua scripts, on the server in memory, Redis and Valkey, and against a model."""
