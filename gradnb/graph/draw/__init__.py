"""From a tree of boxes to a picture: who stands in which row, where, and the SVG."""
