"""What fedlab costs in time and memory, and what it lets leak: ``python -m benchmarks``.

Every benchmark prints a table and writes the same figures to a JSON file.
"""
