"""Types and functions shared by all packages; no I/O."""
