"""docker-compose.yml, as Compose understands it."""
