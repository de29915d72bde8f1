"""The manual: ``make manual`` builds it."""
