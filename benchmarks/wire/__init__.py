"""The lightest upstream and load that one Python process can be: canned bytes over uvloop, so that what stands between
them is what is measured.
"""
