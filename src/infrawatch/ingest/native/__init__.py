"""The native formats, JSON and NDJSON."""
