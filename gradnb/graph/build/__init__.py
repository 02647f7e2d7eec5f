"""From a Recording to graphs: the training steps, what each loss depends on, what the gradient did, where the findings stand."""
