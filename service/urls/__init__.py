"""Parses DATABASE_URL and REDIS_URL. Error messages contain no secrets.

parts.py      splits a URL: address, credentials, options
postgres.py   a PostgreSQL URL as libpq's parameters and the schema
redis.py      a Redis URL as redis-py's parameters
"""

from service.urls.parts import InvalidUrlError
from service.urls.postgres import PostgresUrl, parse_postgres_url
from service.urls.redis import parse_redis_url

__all__ = ["InvalidUrlError", "PostgresUrl", "parse_postgres_url", "parse_redis_url"]
