"""What a role measures of itself: the table of its metrics, their values, and the endpoint that a scraper reads."""
