"""What runs in a kernel's own process: IPython or bash, made fit for a sandbox."""
