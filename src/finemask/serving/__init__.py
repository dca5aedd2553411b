"""A model behind HTTP: the application and its routes, the queue before the model, what is refused and why."""
