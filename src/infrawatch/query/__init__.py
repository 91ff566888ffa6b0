"""Questions are answered."""
