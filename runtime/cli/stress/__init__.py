"""`tidemill stress VERB`: one module per verb, everything heavy imported inside."""
