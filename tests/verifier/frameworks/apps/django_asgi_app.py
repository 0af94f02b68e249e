"""Django by ASGI, in uvicorn, with an async view."""

from typing import Any

import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.routing import Mount

from groat.verifier.django import GroatRequest
from tests.verifier.frameworks.apps import django_project, port, prefix


@django_project.require("orders:write")
async def protected(request: GroatRequest) -> JsonResponse:
    return JsonResponse({"client": request.caller.client_id})


urlpatterns = [path("protected", protected), *django_project.urlpatterns]

if __name__ == "__main__":
    settings.ROOT_URLCONF = __name__
    app: Any = get_asgi_application()
    whole = Starlette(routes=[Mount(prefix(), app)])
    uvicorn.run(whole, host="127.0.0.1", port=port(), lifespan="off", log_level="warning")
