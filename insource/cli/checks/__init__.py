"""The checks of `insource doctor`: the machine, the store, the upstreams.

Each yields findings and changes nothing; `cli.doctor` shows them.
"""
