"""API keys: creation, lookup, and the forms in which clients send them."""
