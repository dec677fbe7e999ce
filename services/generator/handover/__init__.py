"""How the weights of a generation come to the server that is to serve them, and how it is known that they did."""
