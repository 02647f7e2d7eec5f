"""Proof by repair: the cell runs again in a forked child with the blamed line mended, and only then is a finding called proven."""

from .proof import Prover, prove

__all__ = ["Prover", "prove"]
