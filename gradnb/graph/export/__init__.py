"""The graph for other programs: Graphviz, torchviz, JSON, networkx."""
