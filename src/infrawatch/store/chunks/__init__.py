"""Compacted samples: the head of open windows, and the chunks of closed ones."""
