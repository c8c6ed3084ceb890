"""Labelled data sets on which frozen features are probed (paper Sec. 4.1)."""
