"""Django REST framework without the middleware of Django, in gunicorn."""

import os
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from tests.verifier.frameworks.apps import SCOPES, verifier
from tests.verifier.frameworks.apps.under_gunicorn import serve

settings.configure(
    SECRET_KEY=os.urandom(16).hex(),
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    REST_FRAMEWORK={"UNAUTHENTICATED_USER": None},
    GROAT_VERIFIER=verifier(),
    GROAT_SCOPES=SCOPES,
)

# Django REST framework reads the settings when it is imported.
from rest_framework.permissions import IsAuthenticated  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from groat.verifier.django import metadata_urls  # noqa: E402
from groat.verifier.drf import GroatAuthentication, GroatRequest, HasScopes  # noqa: E402


class Protected(APIView):
    authentication_classes = [GroatAuthentication]
    permission_classes = [HasScopes("orders:write")]

    def get(self, request: GroatRequest) -> Response:
        return Response({"client": request.caller.client_id})

    def post(self, request: GroatRequest) -> Response:
        return self.get(request)

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        return self.get(request)


class WhoAmI(APIView):
    authentication_classes = [GroatAuthentication]
    permission_classes = [IsAuthenticated]

    def get(self, request: GroatRequest) -> Response:
        return Response({"client": request.user.username, "scopes": sorted(request.auth.scopes)})


def health(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


urlpatterns = [
    *metadata_urls(),
    path("health", health),
    path("protected", Protected.as_view()),
    path("whoami", WhoAmI.as_view()),
]

if __name__ == "__main__":
    serve(get_wsgi_application)
