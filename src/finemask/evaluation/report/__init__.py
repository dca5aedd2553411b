"""One self-contained page: numbers, curves and example pictures of an evaluation."""
