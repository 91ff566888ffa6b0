"""The HTTP server around the app: its port, its processes, and connections up to a request."""
