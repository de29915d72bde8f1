"""Other people's federations and tools: observers, update files, and exports."""
