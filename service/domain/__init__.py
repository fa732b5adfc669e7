"""What an order is and how it may change. Pure: imports nothing of the layers above.

order.py             the order: as it is placed, read and amended
history.py           the entries of its history, and their details
routing_record.py    the stored record of its routing: quotes and route, as in the API
lifecycle.py         the order's state machine
transaction.py       a signed transaction and its outcome
failures.py          failure codes, and whether an attempt is retried
quote.py             what a pool quotes, and the route that was chosen
leg_limits.py        the limits of a route's legs, where each is fixed when the transaction is signed
limit_price.py       limit prices
conditions.py        the conditions of sniper orders
condition_parser.py  parses conditions as a client sends them
amounts.py           amounts: integers in base units, decimal strings in the API
tokens.py            the tokens
api_key.py           API keys: tokens, scopes, accounts
key_limits.py        their limits, and whether an order keeps them
budgets.py           those of the limits that count all orders of a key
service_limits.py    the limits of all orders
mode.py              whether real money is traded
idempotency.py       idempotency keys: parsed, and the hash of a request
webhook.py           what is sent to webhook endpoints, and when again
timestamps.py        parses and formats timestamps
chain_times.py       how fast Solana is, for the paper market's defaults
"""
