"""Sign-in of people: OpenID Connect, the administrator password, sessions and tickets."""
