"""The core as plain functions, and as the subject of every interleaving that chance comes up with."""
