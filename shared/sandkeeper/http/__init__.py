"""The HTTP face of the services: wire schemas, routes, authentication, problem replies."""
