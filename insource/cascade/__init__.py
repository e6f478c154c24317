"""Deciding one request: match a task, accept or escalate, toss the audit coin.

It writes nothing down and knows neither HTTP nor a database; what is learned after a reply goes through `record`.
"""
