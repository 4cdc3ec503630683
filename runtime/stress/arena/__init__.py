"""What the arena actor makes of visits: hits, evictions, and what deciding takes, without a byte of flash."""
