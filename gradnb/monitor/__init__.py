"""Watches a training go on: gradients per layer and step, and red flags with reasons, at almost no cost."""

from .flags import Flag, Sign
from .history import History, Layer
from .monitor import Monitor
from .view import View
from .watch import watch

__all__ = ["Flag", "History", "Layer", "Monitor", "Sign", "View", "watch"]
