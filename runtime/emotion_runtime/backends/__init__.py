"""Ways to run a graph, one small class each."""
