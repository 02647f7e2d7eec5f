"""A trial training step that leaves nothing behind: on a copy of the model, or on the model itself and put back."""
