"""Whatever comes, in whatever order: made-up histories, redelivery, requests and frames that are hostile."""
