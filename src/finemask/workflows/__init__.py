"""Where data, model and evaluation meet: what the verbs do, for Python too."""
