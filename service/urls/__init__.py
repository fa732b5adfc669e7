"""Reads DATABASE_URL and REDIS_URL, and says what is wrong with one without repeating any secret.

parts.py      what both have in common: the address, its characters, its options
postgres.py   to libpq's parameters and the schema
redis.py      to redis-py's parameters
"""

from service.urls.parts import InvalidUrlError
from service.urls.postgres import PostgresUrl, parse_postgres_url
from service.urls.redis import parse_redis_url

__all__ = ["InvalidUrlError", "PostgresUrl", "parse_postgres_url", "parse_redis_url"]
