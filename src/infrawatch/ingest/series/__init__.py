"""Series of incoming samples: their names, ids and caches, and the limit on new ones."""
