"""Who owns what: the owner behind a scope, the tasks that serve it, and the report of what leaving it came to."""
