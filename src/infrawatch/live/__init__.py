"""Live updates: committed entries are pushed to subscribers, without silent gaps."""
