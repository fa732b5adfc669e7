"""REST and WebSocket: what a client sends, and what it is told.

``routes`` is the list of what there is; ``schemas`` hold the contract; ``problems`` are its errors.
"""
