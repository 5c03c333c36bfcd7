"""How a job comes in: the form is read, its cost estimated, its job written."""
