"""The `infrawatch` command: one file for each of its commands."""
