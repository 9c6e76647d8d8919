"""Painting: a document of layers with a mask, its undo history, brushes, and the widgets that edit it."""
