"""Mathematics only: scores, certified thresholds, guards and bounds.

Arrays in, frozen results out. It knows no tasks, texts, files or clocks. The methods are told in
docs/explanation/the-bound.md.
"""
