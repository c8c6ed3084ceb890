"""A page about one session: who was seen when, with which emotions, and how well."""
