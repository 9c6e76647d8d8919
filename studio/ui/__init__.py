"""The window. Widgets show and ask; the Session does. Nothing of torch or of the engines is imported here."""
