"""REST and WebSocket: requests and responses.

routes.py           the table of all routes
order_routes.py     its rows about orders
market_routes.py    its rows about the market
webhook_routes.py   its rows about webhook endpoints
approval_routes.py  its rows about approvals
venue_routes.py     its rows about the venue and its wallet
application.py      the application that is made from it
route.py            one row of that table
orders.py           placing and reading orders
placing.py          how an order is placed
batch.py            placing many
day_limits.py       compares an order with what all orders may sell in a day
budgets.py          compares an order with its API key's budgets
funds.py            compares one with what the wallet holds
dry_run.py          what placing one would do
order_changes.py    cancelling and amending them
approvals.py        approving and refusing orders
stream.py           the WebSocket of an order
orders_stream.py    the WebSocket of all orders of an account
timeline.py         an order's history as the WebSocket's messages
pages.py            lists, page by page
market.py           quotes, tokens, pools
quotes.py           a quote as JSON
market_stream.py    the WebSocket of the market
market_messages.py  its messages
paper.py            listing pools in the paper market
venue.py            the venue, and what its wallet holds
webhooks.py         webhook endpoints
admin.py            the kill switch
keys.py             the caller's own key, and tickets for WebSockets
health.py           whether the service can do its work

requests.py         what a request about orders may contain
list_requests.py    what one about lists of orders, or their stream, may hold
approval_schema.py  what one that approves or refuses an order may hold
market_requests.py  what a request about the market may contain
paper_requests.py   what one to list a pool may hold
dry_run_schemas.py  a dry run's query and response
venue_schemas.py    what one about the venue and its wallet may hold
webhook_schemas.py  what one about webhook endpoints may hold, and their messages
admin_schemas.py    what one about keys and the kill switch may hold
swap_request.py     the swap in requests for an order or a quote
sniper_schema.py    the schema of a sniper order's conditions
terms.py            the terms of an order: what they mean, and whether they fit together
fields.py           the base classes of schemas, and strict fields
strict_json.py      parses the body of a request
messages.py         loads requests by their schemas, and writes JSON responses
webhook_events.py   writes the messages of webhooks
views.py            an order as JSON
responses.py        what a response about orders contains
market_schemas.py   what one about the market contains
routing_schemas.py  the routes and quotes in both
problem_schemas.py  what an error contains
health_schema.py    what a health check answers
history_schemas.py  what an entry of an order's history contains
execution_schemas.py  what is told of an execution that is not final
event_messages.py   what a message of the stream of all orders contains
specs.py            the OpenAPI document, made from the same table
error_responses.py  the problems in it
examples.py         the examples in it
asyncapi.py         the AsyncAPI document of the WebSockets, made from both
document.py         their routes
docs.py             the page that shows the first
problems.py         errors: problem+json

origins.py          which hosts and origins a request may come for and from
proxies.py          the client's address behind a reverse proxy
access.py           authenticates the caller and checks its scope
request_limits.py   counts the requests of each key
sockets.py          all open WebSockets
client_socket.py    one of them
heartbeats.py       pings their clients, and finds the silent ones
close_codes.py      the codes with which they are closed
socket_limits.py    counts the open ones of each key
server.py           the HTTP server
connection.py       one connection, with its time limits
idempotency.py      replays the response to a request that is sent again
stopping.py         refuses what would begin something while the service stops
queues.py           limits how many expensive requests run at once
unknown_tokens.py   fetches tokens that another instance has just listed
"""
