"""JSON-RPC of Solana's nodes over HTTP and WebSocket, with failover.

URLs hold keys: nothing here logs, raises or returns more of one than its host.

endpoints.py      all endpoints: reads from the best one with failover, sends to all
endpoint.py       one endpoint: calls within its budget, and how it does
urls.py           the configured URLs
budget.py         calls per second, and pauses that a node asks for
circuit.py        no calls for a while after failures
answers.py        answers of JSON-RPC: checked, with the slot that they were read from
subscriptions.py  what a WebSocket says has changed
wire.py           the HTTP client
words.py          what nodes write, made fit to be shown
errors.py         refusals by a node, and calls without an answer
"""
