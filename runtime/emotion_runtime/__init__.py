"""How each person in front of a camera feels, without torch."""

__version__ = "0.1.0"
