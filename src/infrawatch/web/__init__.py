"""What browsers get: the dashboard, and API pages that work offline."""
