"""Other engines, measured when they can be imported."""
