"""HTTP endpoints: keys and the audit trail, limits, sessions, OpenID Connect."""
