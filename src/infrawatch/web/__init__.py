"""Pages for browsers: the dashboard, and API documentation that works offline."""
