"""The project's promises of reliability and security, each tried by one command: `scripts/soak ID`.

One file for each promise, found by its name (r02_power_cuts.py); `harness.py` says what such a file holds. They run the
product from outside or call its public functions; the product never imports them.
"""
