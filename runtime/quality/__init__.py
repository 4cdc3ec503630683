"""Quality of a model, and of lossy selections, over windows of text."""
