"""Routes that FastAPI matches and describes, and whose functions are called as they are."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response


class DirectRoute(APIRoute):
    """A route whose function takes the request alone and returns a reply.

    To find out by its signature that there is nothing to find out, and to keep what would have to
    be closed afterwards, costs a third of what the gateway spends on a question.
    """

    def __init__(
        self, path: str, endpoint: Callable[[Request], Awaitable[Response]], **told: Any
    ) -> None:
        super().__init__(path, endpoint, **told)
        self.app = request_response(endpoint)
