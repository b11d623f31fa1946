"""The client's parts, each by itself."""
