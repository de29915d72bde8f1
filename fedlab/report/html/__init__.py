"""HTML for notebooks and pages."""
