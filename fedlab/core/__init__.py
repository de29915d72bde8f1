"""The ground floor: errors, seeds, schedules, settings, plug-ins, views, files and devices."""
