"""The page of a run: `loading` reads what it shows, `page` puts it together; also drawn on live pages."""
