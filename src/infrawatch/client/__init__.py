"""The Python client: push, query, live."""
