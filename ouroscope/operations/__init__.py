"""Long work behind one facade: `tasks` runs it and knows no transport, `servicer` shows it as google.longrunning."""
