"""What a study's tables, figures and sentences say, and the page that they are joined to."""
