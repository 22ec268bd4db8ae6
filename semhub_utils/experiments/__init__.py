"""From items and a model to a tidy table and evidence: what is asked of a model, each a declaration that `core.run` runs."""
