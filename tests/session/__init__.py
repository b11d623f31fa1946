"""The session's parts, each by itself: the end of a turn, pauses, sweeps."""
