"""The measurements behind the figures that the README quotes."""
