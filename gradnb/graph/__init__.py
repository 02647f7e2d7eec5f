"""The picture of the autograd graph: build it, fold it, lay it out, draw it, explore it, export it."""
