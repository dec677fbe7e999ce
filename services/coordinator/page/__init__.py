"""The coordinator's page to look at: runs and monitors in a browser, read-only, live while something goes on."""
