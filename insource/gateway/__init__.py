"""HTTP: the OpenAI wire format, limits, metrics and the serving of what is promoted.

It decides nothing (cascade does) and trains nothing; it meets training only in the registry.
"""
