"""The endpoint's description, as Swagger 2 and OpenAPI 3 documents."""

from collections.abc import Callable
from typing import Any

from autofocus.explain.algorithms import names_of
from autofocus.explain.parameters import XAI_PARAMETERS, allowed

_REPLY = {
    "type": "array",
    "description": "One object an image, in the order of the request; an image that cannot be "
    'read has {"error": {"code", "message"}} in its place. Rows that asked for explanations also '
    "have visualizations, base64 PNG, and attributions, [3, crop, crop]: one of each, or for "
    "multi-label models a list with one a class, for models that find objects one a box.",
    "items": {"type": "object"},
}
_MESSAGE = {"type": "object", "properties": {"message": {"type": "string"}}}
_INFO = {"title": "autofocus scoring endpoint", "version": "1"}
_ERRORS = {
    "400": "The request, or every image in it, is wrong, or explanations are not to be had",
    "401": "The key is missing or wrong",
    "408": "The request waited or the explanation took too long",
    "413": "The body, or the number of images or explanations, is too large",
    "415": "The content type is not application/json",
    "429": "The server is busy; see Retry-After",
    "431": "An id, or the headers, are too long",
    "500": "Scoring failed",
    "503": "An image did not end in time",
}


def swagger(version: str) -> dict[str, Any] | None:
    """Return the document of `version` "2" or "3", None for any other."""
    return {"2": _version_2, "3": _version_3}.get(version, lambda: None)()


def _version_2() -> dict[str, Any]:
    return {
        "swagger": "2.0",
        "info": _INFO,
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "securityDefinitions": {
            "Bearer": {"type": "apiKey", "name": "Authorization", "in": "header"}
        },
        "paths": {
            "/": {"get": _health("schema", {"type": "string"}) | {"produces": ["text/plain"]}},
            "/score": {
                "post": {
                    "operationId": "RunMLService",
                    "security": [{"Bearer": []}],
                    "parameters": [
                        {"in": "body", "name": "body", "required": True, "schema": _request()}
                    ],
                    "responses": _responses(lambda schema: {"schema": schema}),
                }
            },
        },
    }


def _version_3() -> dict[str, Any]:
    def content(schema: dict[str, Any]) -> dict[str, Any]:
        return {"content": {"application/json": {"schema": schema}}}

    return {
        "openapi": "3.0.3",
        "info": _INFO,
        "components": {"securitySchemes": {"Bearer": {"type": "http", "scheme": "bearer"}}},
        "paths": {
            "/": {"get": _health("content", {"text/plain": {"schema": {"type": "string"}}})},
            "/score": {
                "post": {
                    "operationId": "RunMLService",
                    "security": [{"Bearer": []}],
                    "requestBody": {"required": True, **content(_request())},
                    "responses": _responses(content),
                }
            },
        },
    }


def _request() -> dict[str, Any]:
    data = {"type": "array", "minItems": 1, "items": _image()}
    return {
        "type": "object",
        "required": ["input_data"],
        "properties": {
            "input_data": {
                "type": "object",
                "required": ["columns", "data"],
                "properties": {
                    "columns": {"type": "array", "items": {"type": "string", "enum": ["image"]}},
                    "data": data,
                    "index": {"type": "array", "items": {}},
                },
            },
            "params": {"type": "object"},
        },
        "example": {"input_data": {"columns": ["image"], "data": ["<base64>"]}},
    }


def _image() -> dict[str, str]:
    values = {name: allowed(parameter.kind) for name, parameter in XAI_PARAMETERS.items()}
    values["xai_algorithm"] = f"one of {', '.join((*names_of('classes'), *names_of('boxes')))}"
    keys = "; ".join(f"{name}, {words}" for name, words in values.items())
    return {
        "type": "string",
        "description": "A base64 image file, or JSON text of "
        '{"image_base64", "model_explainability", "xai_parameters"}; keys of xai_parameters are '
        f"{keys}.",
    }


def _health(key: str, value: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": "ServiceHealthCheck",
        "responses": {"200": {"description": "The server is up", key: value}},
    }


def _responses(wrap: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    replies = {"200": {"description": "Scores", **wrap(_REPLY)}}
    for status, description in _ERRORS.items():
        replies[status] = {"description": description, **wrap(_MESSAGE)}
    return replies
