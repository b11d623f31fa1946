"""The layer of Deferreds: the coordinator, its maps, waits and watches. Decisions are made below."""
