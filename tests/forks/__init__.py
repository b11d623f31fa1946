"""Processes that fork, in all ways and under all reactors."""
