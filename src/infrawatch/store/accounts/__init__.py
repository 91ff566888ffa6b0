"""Who may access what: tenants, keys, sessions, tickets, SQL users, limits, and the audit trail."""
