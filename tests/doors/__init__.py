"""The doors: coord for asyncio and for threads."""
