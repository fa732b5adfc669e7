"""Delivers due orders to the workers, with taskiq on Redis.

broker.py    sends wake-ups through a Redis stream
receiver.py  receives wake-ups, from Redis or from this process, and runs their jobs
sweep.py     finds due orders without a wake-up in PostgreSQL, and sends the heartbeat
endings.py   ends expired and cancelled orders
"""
