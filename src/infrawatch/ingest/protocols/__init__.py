"""Foreign protocols: a module or package each, all of one shape (bytes → columns → response)."""
