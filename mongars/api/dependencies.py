"""What routes are given."""

from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection

from mongars.body import Body


async def body_of(connection: HTTPConnection) -> Body:
    """The body that this application was opened with.

    A coroutine though it waits for nothing: plain functions are sent through a thread.
    """
    body = connection.app.state.body
    assert isinstance(body, Body)
    return body


BodyDep = Annotated[Body, Depends(body_of)]
