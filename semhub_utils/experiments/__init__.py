"""What models are asked: each experiment is a declaration, in a module named for what it reads; `core` runs them."""
