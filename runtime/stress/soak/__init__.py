"""A seeded campaign of harm against cells that decode, and what became of each: `tidemill stress soak`."""
