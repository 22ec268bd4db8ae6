"""The small models that ship with the book, the generated world they speak of, and their training."""
