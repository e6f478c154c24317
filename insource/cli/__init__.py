"""The command line: one file per command, each importing its work when it is called.

It asks the other rooms and prints what they say; no figure is computed here.
"""
