"""What every other room may use: errors, seeds, the schedule language, plug-ins, files, devices and progress."""
