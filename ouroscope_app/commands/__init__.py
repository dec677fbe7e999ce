"""One module per command. A command reads its arguments, calls, and shows; it decides nothing."""
