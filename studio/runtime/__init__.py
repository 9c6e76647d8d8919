"""Worker processes, the pipes to them, and the order in which jobs run. Knows engines only as strings."""
