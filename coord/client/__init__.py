"""The Deferred layer: the coordinator, its maps, waits and watches. The layers below make the decisions."""
