"""What pqhost is compared with: the same answers from FastAPI, with asyncpg for the tables."""

import os
from contextlib import asynccontextmanager
from datetime import date, datetime
from uuid import UUID

import asyncpg
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

DSN = os.environ.get("BENCH_POSTGRES")
# Made by the harness from characters that need no quoting.
SCHEMA = os.environ.get("BENCH_SCHEMA")
# As many as pqhost has to one database.
CONNECTIONS = 8


@asynccontextmanager
async def lifespan(app: FastAPI):
    if DSN is None:
        yield
        return
    async with asyncpg.create_pool(DSN, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


class Account(BaseModel):
    id: int
    name: str
    industry: str | None
    revenue: float | None
    active: bool
    created_at: datetime


class Wide(BaseModel):
    id: int
    quantity: int
    name: str
    city: str | None
    note: str
    price: float
    active: bool
    day: date
    updated_at: datetime
    reference: UUID


class NewOrder(BaseModel):
    customer: str
    quantity: int
    price: float


async def rows(table: str):
    async with app.state.pool.acquire() as connection:
        return await connection.fetch(f"SELECT * FROM {SCHEMA}.{table}")


@app.get("/hello")
async def hello(request: Request, name: str = "world"):
    return {"hello": name, "path": request.url.path}


@app.get("/accounts")
async def accounts():
    return [dict(row) for row in await rows("accounts")]


@app.get("/accounts-model")
async def accounts_model() -> list[Account]:
    """The same for an author who writes down the shape of the answer: pydantic then encodes it, which is faster."""
    return [dict(row) for row in await rows("accounts")]


@app.get("/wide")
async def wide():
    return [dict(row) for row in await rows("wide")]


@app.get("/wide-model")
async def wide_model() -> list[Wide]:
    """As `accounts_model`."""
    return [dict(row) for row in await rows("wide")]


async def reshaped():
    return [
        {
            "id": row["id"],
            "name": row["name"].upper(),
            "industry": row["industry"] or "unknown",
            "revenue": round(row["revenue"] * 1.21, 2),
        }
        for row in await rows("accounts")
        if row["active"] and row["revenue"] is not None
    ]


@app.get("/touched")
async def touched():
    return await reshaped()


@app.get("/touched-response")
async def touched_response():
    """The same for an author who knows that every value is JSON: FastAPI then does not look for those that are not."""
    return JSONResponse(await reshaped())


@app.post("/orders")
async def create_order(new: NewOrder):
    insert = f"INSERT INTO {SCHEMA}.orders (customer, quantity, price) VALUES ($1, $2, $3) RETURNING *"
    async with app.state.pool.acquire() as connection:
        return dict(await connection.fetchrow(insert, new.customer, new.quantity, new.price))
