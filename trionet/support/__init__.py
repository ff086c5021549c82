"""Small things that every room uses, and that know nothing of connections: checks, texts, generators, blocks."""
