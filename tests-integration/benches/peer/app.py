"""Three of Atelier's routes as one would write them with FastAPI and asyncpg, to compare with.

The same tables, the same policies and the same kind of transaction: role and claims are set in it, then one statement
runs. The database makes the JSON and it is handed out as text, which is the quickest that this stack offers.
"""

import base64
import json
import os
import uuid
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

import asyncpg
import jwt
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

JWT_SECRET = os.environ["SUPABASE_JWT_SECRET"]
API = "/api/v1/comfyui"

# As Atelier's own connections have it.
SETTINGS = {
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "30s",
    "random_page_cost": "1.1",
}

PREAMBLE = "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)"

ONE = """
select json_build_object(
    'id', id, 'user_id', user_id, 'name', name, 'description', description, 'is_public', is_public, 'tags', tags,
    'created_at', created_at, 'updated_at', updated_at, 'workflow_json', workflow_json)::text
from public.comfyui_workflows where id = $1
"""

BRANCH = """
    (select id, user_id, name, description, is_public, tags, created_at, updated_at
     from public.comfyui_workflows
     where {condition} and (created_at, id) < (coalesce($1, '9999-12-31 00:00:00+00'::timestamptz),
       coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
     order by created_at desc, id desc limit $3)
"""

PAGE = f"""
select coalesce(json_agg(page), '[]')::text, count(*), (array_agg(page.created_at))[$3 - 1], (array_agg(page.id))[$3 - 1]
from (
    select * from (
        {BRANCH.format(condition="user_id = $4")} union all {BRANCH.format(condition="is_public and user_id <> $4")}
    ) as branches order by created_at desc, id desc limit $3 - 1
) as page
"""

CREATE = """
insert into public.comfyui_workflows
    (id, user_id, name, description, workflow_json, is_public, tags, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, now(), now())
returning json_build_object(
    'id', id, 'user_id', user_id, 'name', name, 'description', description, 'is_public', is_public, 'tags', tags,
    'created_at', created_at, 'updated_at', updated_at, 'workflow_json', workflow_json)::text
"""


@asynccontextmanager
async def lifespan(app: FastAPI):
    # Eight for each of two processes: as many as Atelier's pool has.
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=8, max_size=8, server_settings=SETTINGS
    ) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


def person(authorization: Annotated[str, Header()]) -> uuid.UUID:
    """Who sends the request, by an HS256 token."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise HTTPException(401, "a bearer token is needed")
    try:
        claims = jwt.decode(token, JWT_SECRET, algorithms=["HS256"], audience="authenticated")
        return uuid.UUID(claims["sub"])
    except (jwt.InvalidTokenError, KeyError, ValueError) as fault:
        raise HTTPException(401, "the token is not valid") from fault


Person = Annotated[uuid.UUID, Depends(person)]


@asynccontextmanager
async def acting_as(request: Request, who: uuid.UUID):
    """A transaction with the person's rights."""
    claims = json.dumps({"sub": str(who), "role": "authenticated"})
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        await connection.execute(PREAMBLE, claims)
        yield connection


class Draft(BaseModel):
    """What is to be stored."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=10_000)
    workflow_json: dict
    is_public: bool = False
    tags: list[str] = Field(default=[], max_length=32)


@app.get(API + "/workflows/{workflow_id}")
async def get_workflow(request: Request, workflow_id: uuid.UUID, who: Person) -> Response:
    async with acting_as(request, who) as connection:
        text = await connection.fetchval(ONE, workflow_id)
    if text is None:
        raise HTTPException(404, "there is no such workflow")
    return Response(text, media_type="application/json")


@app.get(API + "/workflows")
async def list_workflows(
    request: Request,
    who: Person,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> Response:
    after = (None, None)
    if cursor is not None:
        moment, last = json.loads(base64.urlsafe_b64decode(cursor))
        after = (datetime.fromisoformat(moment), uuid.UUID(last))
    async with acting_as(request, who) as connection:
        items, count, moment, last = await connection.fetchrow(PAGE, *after, limit + 1, who)
    following = "null"
    if count == limit:
        text = json.dumps([moment.isoformat(), str(last)])
        following = '"' + base64.urlsafe_b64encode(text.encode()).decode() + '"'
    return Response(f'{{"items":{items},"next_cursor":{following}}}', media_type="application/json")


@app.post(API + "/workflows", status_code=201)
async def create_workflow(request: Request, draft: Draft, who: Person) -> Response:
    workflow_id = uuid.uuid4()
    async with acting_as(request, who) as connection:
        text = await connection.fetchval(
            CREATE, workflow_id, who, draft.name, draft.description, json.dumps(draft.workflow_json),
            draft.is_public, draft.tags,
        )
    headers = {"location": f"{API}/workflows/{workflow_id}"}
    return Response(text, status_code=201, media_type="application/json", headers=headers)
