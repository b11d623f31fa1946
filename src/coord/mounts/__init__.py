"""The mount agent: tells the cluster what is mounted on this host (DESIGN, section 8)."""
