"""Fair use of the process: admission, turns of tenants, and long work off the event loop."""
