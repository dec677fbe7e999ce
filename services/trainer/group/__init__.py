"""Training in several processes: who starts them, what they do, how they end."""
