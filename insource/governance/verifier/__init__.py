"""The verifier for a stranger: one file that runs by itself, written apart from what it checks."""
