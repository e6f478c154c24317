"""What `insource compare` shows: the tables, and the drawing as a page or as a PNG, all from its JSON."""
