"""HTTP around every route: authentication, limits, headers, problems, metrics, OpenAPI."""
