"""Words everybody uses; no I/O."""
