"""Making a trained version smaller: parts of its encoder taken out, its weights in fewer bits, and what that cost."""
