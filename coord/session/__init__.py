"""The floor that drives the core: what the link reports goes in, what the core commands goes out."""
