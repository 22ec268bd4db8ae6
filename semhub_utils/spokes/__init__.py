"""One module per data type: what its items are and what they mean."""
