"""The host agent: collect, spool, send."""
