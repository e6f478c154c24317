"""What is stored: the ledger of decisions, the registry of versions, and the artifacts by digest.

The only room that knows SQLite (through APSW) and the shape of the folder INSOURCE_HOME.
It decides nothing about a request.
"""
