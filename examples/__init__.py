"""Programs that use the service as anybody's would: by its client, and by nothing else of this project."""
