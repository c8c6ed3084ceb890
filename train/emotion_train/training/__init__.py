"""A pre-training run: its configuration, stages, loop, objective, start weights and report."""
