"""What the predictor actor names of later layers, how much of that comes true, and what it takes."""
