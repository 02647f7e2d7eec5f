"""From bare tensors to a graph: the walk over ``grad_fn``, without a recording and without lines."""
