"""Comparing: the families and compressions of one task, measured on the same rows, and the choice among them."""
