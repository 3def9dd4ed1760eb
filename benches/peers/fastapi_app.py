"""What pqhost is compared with: the same answers from FastAPI, with asyncpg for the table."""

import os
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
from fastapi import FastAPI, Request
from pydantic import BaseModel

DSN = os.environ.get("BENCH_POSTGRES")
# Made by the harness from characters that need no quoting.
SCHEMA = os.environ.get("BENCH_SCHEMA")


@asynccontextmanager
async def lifespan(app: FastAPI):
    if DSN is None:
        yield
        return
    async with asyncpg.create_pool(DSN) as pool:
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


async def rows():
    async with app.state.pool.acquire() as connection:
        return [dict(row) for row in await connection.fetch(f"SELECT * FROM {SCHEMA}.accounts")]


@app.get("/hello")
async def hello(request: Request, name: str = "world"):
    return {"hello": name, "path": request.url.path}


@app.get("/accounts")
async def accounts():
    return await rows()


@app.get("/accounts-model")
async def accounts_model() -> list[Account]:
    """The same for an author who writes down the shape of the answer: pydantic then encodes it, which is faster."""
    return await rows()
