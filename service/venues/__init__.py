"""Where orders execute: the interface of a venue, the router, and the venues themselves."""
