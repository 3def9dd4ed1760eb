"""Makes and drops the tables of the benchmarks: `table.py create|drop SCHEMA` with BENCH_POSTGRES set."""

import asyncio
import os
import re
import sys
import uuid
from datetime import UTC, date, datetime, timedelta

import asyncpg

ACCOUNTS = 1_000
WIDE_ROWS = 10_000
INDUSTRIES = ["Retail", "Énergie", "Software", "建設", "Logistics", "Healthcare"]
CITIES = ["Köln", "Lyon", "Kraków", None, "Gent", "Porto"]

TABLES = """
    CREATE TABLE {schema}.accounts (id integer PRIMARY KEY, name text NOT NULL, industry text,
        revenue double precision, active boolean NOT NULL, created_at timestamp NOT NULL);
    CREATE TABLE {schema}.wide (id bigint PRIMARY KEY, quantity integer NOT NULL, name text NOT NULL, city text,
        note text NOT NULL, price double precision NOT NULL, active boolean NOT NULL, day date NOT NULL,
        updated_at timestamptz NOT NULL, reference uuid NOT NULL);
    CREATE TABLE {schema}.orders (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, customer text NOT NULL,
        quantity integer NOT NULL, price double precision NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
"""


def account(number):
    industry = None if number % 7 == 0 else INDUSTRIES[number % len(INDUSTRIES)]
    revenue = None if number % 5 == 0 else number * 7919 % 1_000_003 / 100
    created = datetime(2024, 1, 1) + timedelta(hours=number * 7)
    return number, f"Account {number}", industry, revenue, number % 3 != 0, created


def wide(number):
    name = f"{INDUSTRIES[number % len(INDUSTRIES)]} article {number}"
    note = f'"{number}" pieces\non pallet {number % 97}, to be handled with care'
    day = date(2024, 1, 1) + timedelta(days=number % 700)
    updated = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=number * 977, microseconds=number * 31 % 1_000_000)
    price = number * 7919 % 1_000_003 / 100
    reference = uuid.uuid5(uuid.NAMESPACE_URL, str(number))
    city = CITIES[number % len(CITIES)]
    return number * 1_000_003, number % 500, name, city, note, price, number % 3 != 0, day, updated, reference


async def fill(connection, schema, table, records):
    await connection.copy_records_to_table(table, schema_name=schema, records=records)
    await connection.execute(f"ANALYZE {schema}.{table}")


async def main(command, schema):
    # Nothing but a schema of this benchmark is ever created or dropped.
    if not re.fullmatch(r"pqhost_bench_[a-z0-9_]+", schema):
        sys.exit(f"`{schema}` is not a benchmark's schema")
    connection = await asyncpg.connect(os.environ["BENCH_POSTGRES"], timeout=10)
    try:
        if command == "drop":
            await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
            return
        await connection.execute(f"CREATE SCHEMA {schema};{TABLES.format(schema=schema)}")
        await fill(connection, schema, "accounts", [account(number) for number in range(1, ACCOUNTS + 1)])
        await fill(connection, schema, "wide", [wide(number) for number in range(1, WIDE_ROWS + 1)])
        print(await connection.fetchval("SHOW server_version"))
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
