"""Ways to run a graph, one class each behind one Protocol; `open_backend` chooses among them."""
