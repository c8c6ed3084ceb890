"""Scenes rendered from portraits: drawing, camera effects, and training and test clips cut from them."""
