"""HTML views of objects in notebooks."""
