"""What is asked of a model, from items to a tidy table and evidence: declarations that `core.run` runs."""
