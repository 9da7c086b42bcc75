"""Readers: what the API reads, as frozen values. Each list is a `Listing`; `read_page` answers any of them."""
