"""Makes and drops the table of the accounts benchmark: `table.py create|drop SCHEMA` with BENCH_POSTGRES set."""

import asyncio
import os
import re
import sys
from datetime import datetime, timedelta

import asyncpg

ROWS = 1000
INDUSTRIES = ["Retail", "Énergie", "Software", "建設", "Logistics", "Healthcare"]


def account(number):
    industry = None if number % 7 == 0 else INDUSTRIES[number % len(INDUSTRIES)]
    revenue = None if number % 5 == 0 else number * 7919 % 1_000_003 / 100
    created = datetime(2024, 1, 1) + timedelta(hours=number * 7)
    return number, f"Account {number}", industry, revenue, number % 3 != 0, created


async def main(command, schema):
    # Nothing but a schema of this benchmark is ever created or dropped.
    if not re.fullmatch(r"pqhost_bench_[a-z0-9_]+", schema):
        sys.exit(f"`{schema}` is not a benchmark's schema")
    connection = await asyncpg.connect(os.environ["BENCH_POSTGRES"], timeout=10)
    try:
        if command == "drop":
            await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
            return
        await connection.execute(
            f"""CREATE SCHEMA {schema};
            CREATE TABLE {schema}.accounts (id integer PRIMARY KEY, name text NOT NULL, industry text,
                revenue double precision, active boolean NOT NULL, created_at timestamp NOT NULL)"""
        )
        records = [account(number) for number in range(1, ROWS + 1)]
        await connection.copy_records_to_table("accounts", schema_name=schema, records=records)
        await connection.execute(f"ANALYZE {schema}.accounts")
        print(await connection.fetchval("SHOW server_version"))
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
