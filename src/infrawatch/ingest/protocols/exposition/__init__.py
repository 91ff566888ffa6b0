"""What Prometheus scrapes, from those who would rather send it: `POST /v1/exposition`."""
