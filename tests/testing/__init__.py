"""`coord.testing`: the server and the network in memory, beside real ones."""
