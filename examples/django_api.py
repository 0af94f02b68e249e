"""An API with Django in one file: clients with `orders:read` may read orders, those with `orders:write` may add one.

GROAT_ISSUER=https://auth.example.com GROAT_AUDIENCE=https://orders.example.com gunicorn django_api:app

By ASGI: `uvicorn django_api:asgi`. In a project of more files the settings stand in its settings module.
"""

import os

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost", "orders.example.com"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["groat.verifier.django.GroatMiddleware", "django.middleware.common.CommonMiddleware"],
    GROAT_ISSUER=os.environ.get("GROAT_ISSUER"),
    GROAT_AUDIENCE=os.environ.get("GROAT_AUDIENCE"),
    GROAT_SCOPES={"orders:read": "Read orders", "orders:write": "Add orders"},
    GROAT_EXEMPT=["/health"],
)

from groat.verifier.django import GroatRequest, require  # noqa: E402 - views are imported once there are settings

stored: list[str] = ["1 sack of groats"]


def health(request: HttpRequest) -> JsonResponse:
    """Anybody may ask: GROAT_EXEMPT."""
    return JsonResponse({"status": "ok"})


async def protected(request: GroatRequest) -> JsonResponse:
    """Any client with a token for this API may ask: the middleware sees to that."""
    return JsonResponse({"message": f"Hello, {request.caller.client_id}", "client": request.caller.client_id})


@method_decorator(require(), name="dispatch")
class Orders(View):
    """Each method needs its own scope."""

    @method_decorator(require("orders:read"))
    def get(self, request: GroatRequest) -> JsonResponse:
        """Needs `orders:read`."""
        return JsonResponse(stored, safe=False)

    @method_decorator(require("orders:write"))
    def post(self, request: GroatRequest) -> JsonResponse:
        """Needs `orders:write`."""
        order = request.GET["order"]
        stored.append(order)
        return JsonResponse({"order": order, "by": request.caller.client_id}, status=201)


urlpatterns = [path("health", health), path("protected", protected), path("orders", Orders.as_view())]
app = get_wsgi_application()
asgi = get_asgi_application()
