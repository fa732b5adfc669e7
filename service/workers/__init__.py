"""Which order is worked on when: taskiq on Redis.

broker.py    sends wake-ups through a Redis stream
receiver.py  takes as many as this process can work on: from Redis, or from the process itself
sweep.py     finds in PostgreSQL what no wake-up has reached, and sends the heartbeat
endings.py   ends orders on time
"""
