"""Selection of series: selectors as SQL conditions, ids as parameters, a cache of the result."""
