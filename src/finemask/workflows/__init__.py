"""Where data, model and evaluation meet: what the verbs do, for Python too.

``train_model.train``, ``several_runs.learning_curve.learning_curve``, ``several_runs.folds.cross_validate``,
``evaluate_model.evaluate`` and ``predict_images.predict`` take plain arguments. The others take the options of their
verb, which ``verb_options`` completes and checks::

    from finemask.config import verb_options
    from finemask.workflows.data.find_suspects import write_suspects

    found = write_suspects(verb_options("data suspects", {"model": "model.safetensors", "data.root": "DIR"}))
"""
