"""OpenAPI and its page: what each route takes and gives, with nothing loaded from elsewhere."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from compliance_copilot.core.vocabulary import Scope
from compliance_copilot.gateway import key_schemas, limits, schemas
from compliance_copilot.gateway.problems import MEDIA_TYPE
from compliance_copilot.gateway.reply_schemas import Problem

_REFERENCE = "#/components/schemas/{model}"
_BODIES: tuple[type[BaseModel], ...] = (
    schemas.QueryRequest,
    schemas.SearchRequest,
    schemas.IngestRequest,
    schemas.DocumentPatch,
    schemas.SyncRequest,
    schemas.FeedbackBody,
    schemas.ConfigBody,
    schemas.NewTenantBody,
    schemas.TenantPatch,
    key_schemas.NewKeyBody,
    key_schemas.ProviderKeyBody,
    key_schemas.RotationBody,
)
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `cc_live_...`"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_REQUEST_ID = {
    "description": "The id of this request, and of its row in the ledger.",
    "schema": {"type": "string", "format": "uuid"},
}
_BODY_ERRORS = (400, 408, 413, 415, 422)
_KEY_ERRORS = (401, 403, 429, 503)
_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repeat with the same key and body gives the first reply, uncharged.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Compliance Copilot API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="{root}/docs/assets/favicon.png">
<link rel="stylesheet" href="{root}/docs/assets/swagger-ui.css"></head>
<body><div id="swagger-ui" data-openapi="{root}/openapi.json"></div>
<script src="{root}/docs/assets/swagger-ui-bundle.js"></script>
<script src="{root}/docs/start.js"></script></body></html>
"""
_START = """const place = document.getElementById("swagger-ui");
window.ui = SwaggerUIBundle({
  url: place.dataset.openapi,
  domNode: place,
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


def documented(
    reply: Any,
    *,
    status: int = 200,
    accepts: type[BaseModel] | None = None,
    scopes: Sequence[Scope] | None = None,
    errors: Sequence[int] = (),
    idempotent: bool = False,
) -> dict[str, Any]:
    """Return what a route's decorator is told, so that OpenAPI names all that can happen.

    `scopes`: None for a route without a key, else the scopes of which one is needed. `reply`:
    a model, `str` for plain text, None for no content.
    """
    codes = {*errors, *(_BODY_ERRORS if accepts else ())}
    codes |= set(_KEY_ERRORS) if scopes is not None else set()
    extra: dict[str, Any] = _request_body(accepts) if accepts else {}
    if scopes is not None:
        extra["security"] = [{name: []} for name in _SECURITY]
        extra["x-scopes"] = [str(scope) for scope in scopes]
    if idempotent:
        extra["parameters"] = [_IDEMPOTENCY]
    return {
        "status_code": status,
        "response_model": None,
        "response_class": PlainTextResponse if reply is str else JSONResponse,
        "responses": {
            status: _success(reply),
            **{code: _problem(code) for code in sorted(codes)},
        },
        "openapi_extra": extra,
    }


def with_files(told: dict[str, Any]) -> dict[str, Any]:
    """Return what `documented` gave, for a body of files."""
    file = {"type": "string", "format": "binary"}
    schema = {
        "type": "object",
        "required": ["files"],
        "properties": {
            "files": {"type": "array", "items": file, "minItems": 1},
            "effective_from": {
                "type": "string",
                "format": "date-time",
                "description": "From when they are in force; without it at once.",
            },
        },
    }
    told["openapi_extra"]["requestBody"] = {
        "required": True,
        "content": {"multipart/form-data": {"schema": schema}},
    }
    return told


def or_text(told: dict[str, Any], media_type: str, about: str = "") -> dict[str, Any]:
    """Return what `documented` gave, with a text of this type as another form of the reply."""
    schema = {"type": "string", **({"description": about} if about else {})}
    told["responses"][told["status_code"]]["content"] = {media_type: {"schema": schema}}
    return told


def _request_body(accepts: type[BaseModel]) -> dict[str, Any]:
    reference = {"$ref": _REFERENCE.format(model=accepts.__name__)}
    required = any(field.is_required() for field in accepts.model_fields.values())
    content = {"application/json": {"schema": reference}}
    return {"requestBody": {"required": required, "content": content}}


def _success(reply: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"headers": {"X-Request-ID": _REQUEST_ID}}
    return described if reply in (None, str) else {**described, "model": reply}


def _problem(status: int) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-ID": _REQUEST_ID}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers |= limits.described()
    return {
        "description": HTTPStatus(status).phrase,
        "headers": headers,
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model="Problem")}}},
    }


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        components = document.setdefault("components", {})
        pairs = [(model, "validation") for model in _BODIES]
        _, definitions = models_json_schema(
            [*pairs, (Problem, "serialization")],  # type: ignore[list-item]
            ref_template=_REFERENCE,
        )
        components.setdefault("schemas", {}).update(definitions["$defs"])
        components["securitySchemes"] = _SECURITY
        app.openapi_schema = document
    return app.openapi_schema


def add_docs(app: FastAPI) -> None:
    """Serve `/docs` from this process: no other host is asked, no inline script is run."""

    async def show(request: Request) -> Response:
        return HTMLResponse(_PAGE.format(root=request.scope.get("root_path", "")))

    async def start(request: Request) -> Response:  # noqa: ARG001
        return Response(_START, media_type="text/javascript")

    async def front(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/docs", status_code=307)

    assets = StaticFiles(packages=[("fastapi_offline", "static")])
    app.router.routes.extend(
        [
            Route("/", front),
            Route("/docs", show),
            Route("/docs/start.js", start),
            Mount("/docs/assets", assets),
        ]
    )
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
