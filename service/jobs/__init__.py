"""Which order is worked on when: taskiq on Redis.

``broker`` sends wake-ups, ``receiver`` takes as many as this process can work on (from Redis, or from the
process itself while that is away), ``tasks`` is what a wake-up runs, ``sweep`` finds in PostgreSQL what no
wake-up has reached, and beats the heart, ``endings`` ends orders on time.
"""
