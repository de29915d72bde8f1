"""Results in the forms of other tools: tables, TensorBoard, the structures of breaching."""
