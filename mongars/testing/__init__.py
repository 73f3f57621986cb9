"""In-memory twins of the ports and servers that speak foreign protocols, typed and shipped."""
