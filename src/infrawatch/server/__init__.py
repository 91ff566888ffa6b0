"""The HTTP server around the app: its port, its worker processes and its connections."""
