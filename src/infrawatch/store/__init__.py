"""The only room that speaks SQL: tables, series, writers, the journal, and the merged read."""
