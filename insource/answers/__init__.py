"""Normalise, compare and render answers; training, backtest and gateway share it.

It knows texts and labels: no requests, no files, no statistics but the test that the answers are a closed set.
"""

from insource.answers.learning import MAX_ANSWERS, MAX_NEW_SHARE, learn_answers
from insource.answers.space import AnswerSpace

__all__ = ["MAX_ANSWERS", "MAX_NEW_SHARE", "AnswerSpace", "learn_answers"]
