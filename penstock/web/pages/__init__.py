"""The pages, one file each: a page reads facts from the rooms below and hands them to its template."""
