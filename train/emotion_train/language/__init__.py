"""Sentences and labels: emotion classes, GoEmotions, tokens, sentiment scores and prompt phrases."""
