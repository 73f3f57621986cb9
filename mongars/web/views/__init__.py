"""The views, by what a person comes for."""
