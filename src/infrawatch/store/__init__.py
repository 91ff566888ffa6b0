"""The only package that uses SQL: tables, series, writers, the journal, and the merged read."""
