"""HTTP requests: where they come from, and what is refused before authentication."""
