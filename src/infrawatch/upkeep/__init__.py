"""The store stays small: journal → head → chunks, and out."""
