"""From data to an artifact: snapshot, fit, export, evaluate, calibrate, register.

It meets the gateway only in the registry, and reaches teachers only through policy.
"""
