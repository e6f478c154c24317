"""The tree of proofs on top of the ledger's rows: RFC 6962 hashes, tiles, signed checkpoints, proofs, verification."""
