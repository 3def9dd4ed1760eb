"""Keys that come in pairs."""
