"""The command line: its parts as functions, its promises as processes."""
