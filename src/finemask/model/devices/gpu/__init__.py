"""What a GPU computes another way: steps whose shapes do not depend on the data, and that hardly wait.

On a GPU the host only queues operations. It is in front as long as nothing asks for a value: each ask waits for all
that was queued, and then the GPU waits for the host. At a few images a step takes as long as its operations take to be
queued. So proposals, samples and candidates of all images lie in tensors of one size; how many there are is asked for
once a step, together with all else that the host has to know; and from there on, what the parts of a model are given
are views of known length: the losses are those of the lists, to rounding. On a CPU, which waits for nothing, lists are
quicker.

``fixed_step.py`` switches it on, and says for which parts.
"""
