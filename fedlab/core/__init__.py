"""What every other room may use: errors, seeds, schedules, plug-ins, files and devices."""
