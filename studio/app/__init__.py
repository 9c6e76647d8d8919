"""The Session: everything a window, a command line or an API can ask of the studio. No Qt here."""
