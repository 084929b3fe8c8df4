"""The code interpreter: `/execute` and `/contexts`, as E2B's code-interpreter SDK calls them."""
