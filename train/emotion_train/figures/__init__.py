"""Figures of the paper, drawn from any checkpoint."""
