"""The lab: the design that the global table replaced, built for real and run beside it."""
