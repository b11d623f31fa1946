"""The embedded server, as a process."""
