"""The use cases. Start with `execute`: the others are what it needs, or what surrounds it."""
