"""Mathematics only: scores, certified thresholds, guards and bounds.

Arrays in, frozen results out. It knows no tasks, texts, files or clocks; `research/statistics.md` section 7 is its law.
"""
