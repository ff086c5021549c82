"""Who owns what, and what goes on behind it without a user's task.

`owner` is the registry behind a scope, `member` what it owns; `leaving` is how a scope lets go of its handles, and
`drain_report` what that came to. `background` runs service tasks, and `caretaker` is the two of them that look after
all connections together.
"""
