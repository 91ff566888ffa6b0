"""The Prometheus text format, pushed instead of scraped: `POST /v1/exposition`."""
