"""The timeline of a rehearsed lifecycle: what is drawn (`figure`), and drawn as a page or as a PNG.

It knows the figures that `backtest --lifecycle --json` writes, and no others.
"""
