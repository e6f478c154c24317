"""Tuning an encoder's own weights on a task, with torch: the network, its batches, and the loop around them."""
