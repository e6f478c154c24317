"""Figures and documents from the registry and the ledger: what was answered by what, at which risk, saving how much.

It reads and reports; it changes nothing, serves nothing and never decides about a request.
"""
