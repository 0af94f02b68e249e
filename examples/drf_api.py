"""An API with Django REST framework in one file: `orders:read` to read orders, `orders:write` to add one.

GROAT_ISSUER=https://auth.example.com GROAT_AUDIENCE=https://orders.example.com gunicorn drf_api:app

In a project of more files the settings stand in its settings module, and views are what is below them.
"""

import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost", "orders.example.com"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["rest_framework", "groat.verifier.django.GroatConfig"],
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": ["groat.verifier.drf.GroatAuthentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,  # no table of users
    },
    GROAT_ISSUER=os.environ.get("GROAT_ISSUER"),
    GROAT_AUDIENCE=os.environ.get("GROAT_AUDIENCE"),
    GROAT_SCOPES={"orders:read": "Read orders", "orders:write": "Add orders"},
)
django.setup()

from rest_framework.decorators import api_view, authentication_classes, permission_classes  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from groat.verifier.django import metadata_urls  # noqa: E402
from groat.verifier.drf import GroatRequest, HasScopes  # noqa: E402

stored: list[str] = ["1 sack of groats"]


@api_view(["GET"])
@authentication_classes([])
@permission_classes([])
def health(request: Request) -> Response:
    """Anybody may ask."""
    return Response({"status": "ok"})


class Protected(APIView):
    """Any client with a token for this API may ask: DEFAULT_PERMISSION_CLASSES."""

    def get(self, request: GroatRequest) -> Response:
        """Say who called."""
        return Response({"message": f"Hello, {request.caller.client_id}", "client": request.caller.client_id})


READS, WRITES = HasScopes("orders:read"), HasScopes("orders:write")


class Orders(APIView):
    """Reading and writing need their own scope."""

    def get_permissions(self) -> list[HasScopes]:
        """DRF asks for each request."""
        return [READS if self.request.method in ("GET", "HEAD", "OPTIONS") else WRITES]

    def get(self, request: GroatRequest) -> Response:
        """Needs `orders:read`."""
        return Response(stored)

    def post(self, request: GroatRequest) -> Response:
        """Needs `orders:write`."""
        order = request.query_params["order"]
        stored.append(order)
        return Response({"order": order, "by": request.caller.client_id}, status=201)


urlpatterns = [
    *metadata_urls(),
    path("health", health),
    path("protected", Protected.as_view()),
    path("orders", Orders.as_view()),
]
app = get_wsgi_application()
