"""Models that learn. `loop.py` is the same for texts and pictures; what is learnt and from what is a Course."""
