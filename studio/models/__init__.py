"""Models on disk: looked at with bounded readers, never opened in an engine and never unpickled."""
