"""The document of the API, as OpenAPI 3.1 says: made from the table of routes and the structs that they name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any, Final

from msgspec import NODEFAULT
from msgspec.json import encode, schema_components
from msgspec.structs import FieldInfo, fields

from coord.web.exchange import JSON, Answer, Exchange
from coord.web.problems import CONTENT_TYPE, PROBLEMS
from coord.web.routes import NoQuery, Route, Value

__all__ = ["document", "route_of"]

Json = dict[str, Any]
Routes = tuple[Route[Any, Any], ...]

_SCHEMAS: Final = "#/components/schemas/"

_PAGE: Final = "/page/"

_COMMON: Final = ("invalid-parameter", "internal", "unreachable", "stopping", "refused", "upstream-denied", "too-many")
"""The problems of all routes below /v1."""

_OF_KEYS: Final = ("unauthorized", "forbidden", "not-found", "newer-layout")

_OF_BODIES: Final = ("invalid-body", "too-large", "media-type")

_ETAG: Final[Json] = {
    "type": "string",
    "pattern": r'^"[0-9]{1,16}\.[0-9]{1,16}"$',
    "examples": ['"1795368361942752.1"'],
}

_HEADERS: Final[Mapping[str, tuple[str, str, Json]]] = {
    "if-match": ("If-Match", "Only if the record has this ETag still.", _ETAG),
    "if-none-match": (
        "If-None-Match",
        "Only if the record has not this ETag; *: only if the key is not latched.",
        {"type": "string"},
    ),
    "idempotency-key": (
        "Idempotency-Key",
        "A name for the call: repeated under it within an hour, at whichever gateway, it is applied once.",
        {"type": "string", "pattern": "^[!-~]{1,255}$", "format": "coord-name"},
    ),
    "last-event-id": ("Last-Event-ID", "Where a stream goes on.", {"type": "string", "format": "coord-id"}),
}

_NAME: Final[Json] = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$", "format": "coord-name"}

_LEASE: Final[Json] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{16,64}$"}

_VALUE: Final[Json] = {"description": "JSON; true without a body."}

_PROBLEM: Final[Json] = {
    "title": "Problem",
    "description": "What went wrong, as RFC 9457 says. Members may be added.",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "Names the problem, and is a page about it."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri", "description": "The id of the request."},
        "applied": {"enum": [True, False, "unknown"], "description": "Whether the call was applied."},
    },
}


def document(routes: Routes) -> Json:
    """Return the document."""
    routes = tuple(route for route in routes if not route.template.startswith(_PAGE) and route.template != "/")
    schemas = _schemas(routes)
    paths: dict[str, Json] = {}
    for route in routes:
        path = paths.setdefault(route.template, {})
        path[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "coord",
            "summary": "Events of a cluster: wait, fire, hold, lock, count and watch.",
            "version": version("coord"),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas.components | {"Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def route_of(routes: Routes) -> Route[NoQuery, None]:
    """Return the route of the document about these routes and itself."""

    @cache
    def encoded() -> bytes:
        return encode(document((*routes, route))) + b"\n"

    async def get_document(_: Exchange[NoQuery, None]) -> Answer:
        """Answer with this document."""
        return Answer(body=encoded())

    route = Route("GET", "/openapi.json", get_document, open=True, answer=dict, summary="This document.")
    return route


class _Schemas:
    """The schema of each type; structs are ``components``."""

    def __init__(self, types: list[Any]) -> None:
        found, self.components = schema_components(types, ref_template=_SCHEMAS + "{name}")
        self._found = list(zip(types, found, strict=True))

    def of(self, wanted: Any) -> Json:
        """Return the schema of a type, or a reference to it."""
        return dict(next(schema for kind, schema in self._found if kind is wanted))


def _schemas(routes: Routes) -> _Schemas:
    types: list[Any] = []
    for route in routes:
        wanted = [field.type for field in fields(route.query)]
        wanted += [each for each in (route.answer, route.body) if _is_schema(each)]
        types += [each for each in wanted if not any(each is known for known in types)]
    return _Schemas(types)


def _is_schema(kind: Any) -> bool:
    return kind not in (None, Value, dict)


def _operation(route: Route[Any, Any], schemas: _Schemas) -> Json:
    operation: Json = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "description": inspect.cleandoc(route.handler.__doc__ or ""),
        "parameters": [*_path_parameters(route), *_query_parameters(route, schemas), *_header_parameters(route)],
        "responses": _responses(route, schemas),
    }
    if route.verb is not None:
        operation["x-right"] = route.verb
    if route.body is not None:
        operation["requestBody"] = _body(route, schemas)
    if route.open:
        operation["security"] = []
    return operation


def _path_parameters(route: Route[Any, Any]) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _LEASE if name == "lease" else _NAME}
        for name in re.findall(r"{(\w+)}", route.template)
    ]


def _query_parameters(route: Route[Any, Any], schemas: _Schemas) -> list[Json]:
    return [_query_parameter(field, schemas, many=field.encode_name in route.many) for field in fields(route.query)]


def _query_parameter(field: FieldInfo, schemas: _Schemas, *, many: bool) -> Json:
    schema = _without_null(schemas.of(field.type))
    parameter: Json = {"name": field.encode_name, "in": "query", "required": field.required, "schema": schema}
    if field.default is not NODEFAULT and field.default not in (None, ()):
        schema["default"] = field.default
    if many:
        parameter |= {"style": "form", "explode": True}
    if description := schema.pop("description", None):
        parameter["description"] = description
    return parameter


def _without_null(schema: Json) -> Json:
    """Return the schema of a parameter, which can be left out but not be null."""
    choices = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if not choices:
        return schema
    rest = {name: part for name, part in schema.items() if name not in ("anyOf", "default")}
    return (choices[0] if len(choices) == 1 else {"anyOf": choices}) | rest


def _header_parameters(route: Route[Any, Any]) -> list[Json]:
    known = [_HEADERS[each] for each in route.headers if each in _HEADERS]
    headers = [
        {"name": name, "in": "header", "required": False, "description": text, "schema": schema}
        for name, text, schema in known
    ]
    for header in headers:
        if route.call and header["name"] == "If-None-Match":
            header["schema"] = {"const": "*"}
    return headers


def _body(route: Route[Any, Any], schemas: _Schemas) -> Json:
    if route.body is not Value:
        return {"required": True, "content": {JSON: {"schema": schemas.of(route.body)}}}
    return {"required": False, "content": {JSON: {"schema": _VALUE}, "text/plain": {"schema": {"type": "string"}}}}


# Answers.


def _responses(route: Route[Any, Any], schemas: _Schemas) -> Json:
    done: Json = {"description": route.summary or "Done."}
    if route.success != 204:
        done["content"] = _content(route, schemas)
    responses: Json = {str(route.success): done}
    if "if-none-match" in route.headers and not route.call:
        responses["304"] = {"description": "The client has this record."}
    by_status: dict[int, list[str]] = {}
    for name in _problems(route):
        by_status.setdefault(PROBLEMS[name].status, []).append(name)
    for status, names in sorted(by_status.items()):
        responses[str(status)] = {
            "description": "; ".join(f"{name}: {PROBLEMS[name].title}" for name in names),
            "content": {CONTENT_TYPE: {"schema": {"$ref": _SCHEMAS + "Problem"}}},
        }
    return responses


def _content(route: Route[Any, Any], schemas: _Schemas) -> Json:
    return {kind: _schema_of(route, kind, schemas) for kind in route.produces}


def _schema_of(route: Route[Any, Any], kind: str, schemas: _Schemas) -> Json:
    if kind != JSON:
        return {"schema": {"type": "string"}} if kind.startswith("text/plain") else {}
    return {"schema": schemas.of(route.answer) if _is_schema(route.answer) else {"type": "object"}}


def _problems(route: Route[Any, Any]) -> Iterable[str]:
    names = [*route.problems]
    if not route.open:
        names += _COMMON + _OF_KEYS + ("wrong-host", "cross-origin", "invalid-request", "invalid-header")
        names += ["invalid-name", "invalid-key", "invalid-input", "invalid-time"]
    if route.body is not None:
        names += _OF_BODIES + (("invalid-value",) if route.body is Value else ())
    return dict.fromkeys(names)
