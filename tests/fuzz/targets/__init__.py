"""One module per format, each with `seeds()` (valid inputs) and `check(data)`, which
raises whatever is not among the format's documented errors."""
