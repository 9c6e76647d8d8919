"""Data sets: reading, cleaning, splitting, counting. Knows files and rows; trains nothing."""
