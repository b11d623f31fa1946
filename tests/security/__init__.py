"""Who may read what, who is whom, and what is never shown."""
