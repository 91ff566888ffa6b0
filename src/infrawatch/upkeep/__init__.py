"""Background jobs that keep the store small: journal → head → chunks, then retention."""
