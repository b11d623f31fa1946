"""The link's parts, each by itself: URLs, and how commands leave a connection."""
