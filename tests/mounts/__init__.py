"""The mount agent: its parts on tables made up, and real mounts in a namespace of their own."""
