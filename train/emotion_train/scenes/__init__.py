"""Scenes rendered from portraits: people, drawing, camera effects, training and test clips."""
