"""What whoever runs a deployment does with it, from this checkout: deploy, give out API keys, remove."""
