"""Contact sheet and review pages: images of results for visual checking."""
