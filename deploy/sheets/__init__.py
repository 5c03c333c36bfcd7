"""Pictures of results to look at: the contact sheet and the review pages."""
