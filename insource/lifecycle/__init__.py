"""Deciding over time: what a task's traffic would have become with insource in front of it.

Only the command line and the Python door import it; it uses the very cascade, risk and training that production uses.
"""
