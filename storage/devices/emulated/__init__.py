"""A flash device that behaves as told: it wraps another, and adds the times of a drive class, and faults."""
