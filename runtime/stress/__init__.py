"""Load on the actors' own classes, without a model: what a drive, a link, an arena, a predictor, and all of them
together bear. Jobs run in processes of their own; nothing here knows a command line."""
