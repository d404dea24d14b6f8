"""Groups: which model answers for which task and kind of spectrum."""
