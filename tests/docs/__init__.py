"""Every code block of README.md and docs/ is run, or its exception has a name here (see `pages`)."""
