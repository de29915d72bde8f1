"""The parts of the reference that are written from the code, as Markdown."""
