"""All that answers a request, behind one contract: specialists by family, the upstream, and the scripted fake.

They know requests and answers; not thresholds, policy or the ledger.
"""
