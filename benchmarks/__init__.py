"""The project's figures, each produced by one command on real data: `scripts/bench NAME --data FOLDER`.

They run the product from outside or call its public functions; the product never imports them.
"""
