"""The clock that never steps."""
