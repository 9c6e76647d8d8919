"""Plain data shared by every floor. Imports nothing but the standard library and msgspec."""
