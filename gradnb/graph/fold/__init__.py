"""From a graph to a tree of boxes: modules, functions, loops, regions and chains; what is open at first, what is left out."""
