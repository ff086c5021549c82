"""TLS over any other transport: `transport` says how it works, and puts its parts together.

The parts, in the order in which one must understand them: `engine`, `sender`, `receiver`.
"""
