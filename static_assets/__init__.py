"""Files that the package itself serves: templates, styles, and an example site."""
