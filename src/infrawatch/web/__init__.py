"""What browsers get: API pages that work offline."""
