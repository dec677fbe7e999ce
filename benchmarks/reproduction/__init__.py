"""What the literature found, asked of our own runs: results, claims, findings, and the page that tells the outcome."""
