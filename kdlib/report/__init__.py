"""A study's tables, figures and sentences, and the page that joins them."""
